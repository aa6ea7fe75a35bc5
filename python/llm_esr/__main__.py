"""`python -m llm_esr`: the command line."""

from llm_esr.cli import main

if __name__ == "__main__":
    main()
