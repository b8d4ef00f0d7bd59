"""The child process of the llama.cpp engine: one model in one variant behind an OpenAI-compatible listener on loopback.

Started by `LocalServer` as `python -m medgrpo.engines.llamacpp_server --model FILE --address-file FILE ...`. The secret
that requests must carry is the first line of standard input: loopback is open to every web page in the user's browser.
The process ends when standard input closes, which is how it dies with its parent.
"""

import argparse
import os
import sys
import threading
from pathlib import Path

from medgrpo.engines.server import UNUSABLE


def main() -> int:
    """Serves until standard input closes; the exit status says whether a new start could help."""
    arguments = _arguments()
    secret = sys.stdin.readline().strip()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        import xllamacpp
    except ImportError as error:  # the ready-made wheels need the system's libgomp
        print(f"llama.cpp cannot be imported ({error}): run `make app`, and on Linux `apt-get install libgomp1`.")
        return UNUSABLE

    params = xllamacpp.CommonParams()
    params.model.path = str(arguments.model)
    if arguments.adapter:
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(arguments.adapter))]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = arguments.threads
    params.n_ctx, params.n_parallel, params.kv_unified = arguments.context, arguments.slots, False
    # With flash attention the same question had another greedy answer once its prompt was cached (3 of 5; now 0 of 5).
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.n_threads_http = arguments.slots + 6
    params.fit_params = False
    params.cache_ram_mib = arguments.cache_mib
    params.api_keys = [secret]
    params.cors_origins = ""
    params.ui = False
    # Plain text in, plain text out: `<reasoning>` is ours to parse, and only temperature, top_p and seed choose tokens.
    params.force_pure_content_parser = True
    params.reasoning_format = xllamacpp.common_reasoning_format.COMMON_REASONING_FORMAT_NONE
    params.sampling.top_k, params.sampling.min_p = 0, 0.0
    try:
        server = xllamacpp.Server(params)
    except RuntimeError:
        adapter = f" with the adapter {arguments.adapter}" if arguments.adapter else ""
        print(f"llama.cpp cannot load {arguments.model}{adapter}; the lines above say why.", flush=True)
        return UNUSABLE
    written = arguments.address_file.with_suffix(".new")
    written.write_text(server.listening_address)
    written.replace(arguments.address_file)
    threading.Event().wait()
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m medgrpo.engines.llamacpp_server", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="GGUF file of the base model")
    parser.add_argument("--adapter", type=Path, help="GGUF file of the LoRA adapter")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--context", type=int, default=4096, help="tokens of prompt and answer, divided by the slots")
    parser.add_argument("--slots", type=int, default=2, help="answers written at the same time")
    parser.add_argument("--cache-mib", type=int, default=0, help="memory for prompts of earlier requests")
    parser.add_argument("--address-file", type=Path, required=True, help="where to write the address listened on")
    return parser.parse_args()


def _end_with_parent() -> None:
    """Blocks until standard input closes, then ends the process at once: an answer may still be being written."""
    while os.read(0, 4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
