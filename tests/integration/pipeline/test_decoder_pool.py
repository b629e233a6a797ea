import subprocess
import sys
import textwrap

from tests.support.waiting import PATIENCE_S


def test_a_process_ends_though_a_decoder_hangs():
    code = """
        import asyncio, threading
        import transcriber.cli as cli
        from transcriber.pipeline.decoder_pool import DecoderPool

        async def hang():
            decoding = DecoderPool()
            running = asyncio.create_task(decoding.run(threading.Event().wait))
            await asyncio.sleep(0)
            decoding.close()
            return 7

        cli._run = lambda argv: asyncio.run(hang())
        raise SystemExit(cli.main([]))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], timeout=PATIENCE_S, check=False)

    assert done.returncode == 7


def test_the_command_line_loads_no_decoder():
    code = "import sys, transcriber.cli; raise SystemExit('av' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], timeout=PATIENCE_S, check=False).returncode == 0


def test_a_daemon_loads_what_decodes_and_listens_only_when_it_is_needed() -> None:
    code = "import sys, transcriber.service; raise SystemExit(bool({'av', 'onnxruntime'} & set(sys.modules)))"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
