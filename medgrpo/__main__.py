"""`python -m medgrpo ...`"""

from medgrpo.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
