"""A decoder process that echoes what it is asked, falls silent, spins, or dies, as it is asked to."""

import os
import signal

from shared.events.decoder_process import serve


def answer(about: bytes, body: bytes) -> bytes:
    if body.startswith(b"die"):
        os.kill(os.getpid(), signal.SIGKILL)
    if body.startswith(b"silent"):
        signal.pause()
    while body.startswith(b"spin"):
        pass
    return about + body


if __name__ == "__main__":
    serve(answer, cpu_limit_s=0.5)
