"""Start Holdfast: ``python app.py [--host 127.0.0.1] [--port 7860] [--profile embedded]``.

``--llm NAME_OR_FOLDER`` puts another chat model in the profile's place. A Space, which starts this
file without flags, gives the two by the variables HOLDFAST_PROFILE and HOLDFAST_LLM.
"""

from __future__ import annotations

import argparse
import os

from pipelines.fetch import LLM_HELP, MissingWeights, with_llm
from pipelines.memory import keep_freed_memory, restart_with_tcmalloc
from pipelines.profiles import PROFILES, get_profile


def main(argv: list[str] | None = None) -> None:
    """Parse the flags and serve until interrupted.

    Args:
        argv: the command line without the program's name; None takes the process's own.
    """
    parser = argparse.ArgumentParser(prog="app.py", description="See a guardrail work; break it.")
    # A Space sets these two variables and expects to be listened to from outside.
    parser.add_argument("--host", default=os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"))
    parser.add_argument(
        "--port", type=int, default=int(os.environ.get("GRADIO_SERVER_PORT", "7860"))
    )
    names = [profile.name for profile in PROFILES]
    parser.add_argument(
        "--profile", choices=names, default=os.environ.get("HOLDFAST_PROFILE") or "embedded"
    )
    parser.add_argument(
        "--llm", default=os.environ.get("HOLDFAST_LLM", ""), metavar="NAME_OR_FOLDER", help=LLM_HELP
    )
    arguments = parser.parse_args(argv)
    if arguments.profile not in names:  # argparse holds a flag against its choices, no default
        parser.error(
            f"HOLDFAST_PROFILE is {arguments.profile!r}; choose one of: {', '.join(names)}"
        )
    keep_freed_memory()
    profile = get_profile(arguments.profile)
    if arguments.llm:
        try:
            profile = with_llm(profile, arguments.llm)
        except (MissingWeights, ValueError) as error:
            parser.error(str(error))
    from ui.app import build_app, launch_options  # its libraries start threads

    app = build_app(profile)
    app.launch(server_name=arguments.host, server_port=arguments.port, **launch_options())


if __name__ == "__main__":
    restart_with_tcmalloc()
    main()
