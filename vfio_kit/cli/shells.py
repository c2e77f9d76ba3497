"""The scripts by which bash, zsh and fish complete vfio-kit, and the answers that they get.

On click's classes, with three differences: the shell hands over the line up to the cursor, which is
split here, in one way for all; a word with = or : in it is completed as well (--gpu=01:00.0, which
bash sees as several words); and whatever goes wrong prints nothing into the operator's line.
"""

import os

import click
from click.shell_completion import (
    CompletionItem,
    ShellComplete,
    add_completion_class,
    shell_complete,
    split_arg_string,
)

PROGRAM = "vfio-kit"
VARIABLE = "_VFIO_KIT_COMPLETE"
"""As click derives it from the name of the program."""

_BASH = """\
# bash completion of %(prog_name)s
%(complete_func)s() {
    local breaks=$COMP_WORDBREAKS quoted type value
    # Between quotes bash breaks no word, and needs no backslash.
    [[ ${COMP_WORDS[COMP_CWORD]} == [\\"\\']* ]] && quoted=1 breaks=
    COMPREPLY=()
    while IFS=, read -r type value; do
        case $type in
            plain)
                [[ $value == *= ]] && compopt -o nospace
                [[ ! $quoted && $value == *[!A-Za-z0-9_.,:=/@+-]* ]] && printf -v value %%q "$value"
                COMPREPLY+=("$value")
                ;;
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
        esac
    done < <(env COMP_WORDS="${COMP_LINE:0:COMP_POINT}" COMP_WORDBREAKS="$breaks" \\
        %(complete_var)s=bash_complete "$1" 2>/dev/null)
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""

_ZSH = """\
#compdef %(prog_name)s
# zsh completion of %(prog_name)s
%(complete_func)s() {
    local type value what
    local -a response described plain assigned
    response=("${(@f)$(env COMP_WORDS="${(j: :)words[1,CURRENT]}" \\
        %(complete_var)s=zsh_complete ${(Q)words[1]} 2>/dev/null)}")
    for type value what in ${response}; do
        case $type in
            plain)
                if [[ $value == *= ]]; then
                    assigned+=("$value")
                elif [[ $what == _ ]]; then
                    plain+=("$value")
                else
                    described+=("$value:$what")
                fi
                ;;
            dir | file)
                [[ $PREFIX == -*=* ]] && compset -P '*='
                if [[ $type == dir ]]; then _path_files -/; else _path_files; fi
                ;;
        esac
    done
    (( $#described )) && _describe -V unsorted described -U
    (( $#plain )) && compadd -U -V unsorted -a plain
    (( $#assigned )) && compadd -U -V unsorted -S '' -a assigned
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""

_FISH = """\
# fish completion of %(prog_name)s
function %(complete_func)s
    set -l command (commandline -opc)[1]
    set -l line (commandline -cp | string collect)
    set -l option (string match -r -- '^-[^=]*=' (commandline -ct))
    set -l asked COMP_WORDS="$line" %(complete_var)s=fish_complete
    env $asked $command 2>/dev/null | while read -l answer
        set -l parts (string split -m 1 , -- $answer)
        switch $parts[1]
            case plain
                echo $parts[2]
            case dir
                for path in (__fish_complete_directories $parts[2])
                    string join '' -- $option $path
                end
            case file
                for path in (__fish_complete_path $parts[2])
                    string join '' -- $option $path
                end
        end
    end
end
complete --command %(prog_name)s --no-files --keep-order --arguments "(%(complete_func)s)"
"""


class _Shell(ShellComplete):
    """What the three have in common."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the last one, and the last one, which may be empty or end in a quote."""
        words = split_arg_string(os.environ.get("COMP_WORDS", "") + "x")
        return words[1:-1], words[-1][:-1] if words else ""

    def get_completions(self, args: list[str], incomplete: str) -> "list[CompletionItem[str]]":
        """With --option= in front, where it stands before the value that is completed."""
        found = super().get_completions(args, incomplete)
        option, equals, _ = incomplete.partition("=")
        if not equals or not option.startswith("-"):
            return found
        return [_with_value(item, f"{option}={item.value}") for item in found]


def _with_value(item: "CompletionItem[str]", value: str) -> "CompletionItem[str]":
    return CompletionItem(value if item.type == "plain" else item.value, item.type, item.help)


class Bash(_Shell):
    """type,value; bash puts the value in the place of what follows the last break in the word."""

    name = "bash"
    source_template = _BASH

    def get_completions(self, args: list[str], incomplete: str) -> "list[CompletionItem[str]]":
        breaks = os.environ.get("COMP_WORDBREAKS", "")
        end = 1 + max((incomplete.rfind(mark) for mark in "=:" if mark in breaks), default=-1)
        kept = incomplete[:end]
        return [
            _with_value(item, item.value.removeprefix(kept))
            for item in super().get_completions(args, incomplete)
            if item.type != "plain" or item.value.startswith(kept)
        ]

    def format_completion(self, item: "CompletionItem[str]") -> str:
        return f"{item.type},{item.value}"


class Zsh(_Shell):
    """Three lines an item; a colon ends the value where a description follows."""

    name = "zsh"
    source_template = _ZSH

    def format_completion(self, item: "CompletionItem[str]") -> str:
        what = _one_line(item.help) or "_"
        described = what != "_" and not item.value.endswith("=")
        value = item.value.replace(":", r"\:") if described else item.value
        return f"{item.type}\n{value or ' '}\n{what}"


class Fish(_Shell):
    """type,value, a tab and what it is."""

    name = "fish"
    source_template = _FISH

    def format_completion(self, item: "CompletionItem[str]") -> str:
        what = _one_line(item.help)
        return f"{item.type},{item.value}" + (f"\t{what}" if what else "")


SCRIPTS = {"bash": "vfio-kit.bash", "zsh": "_vfio-kit", "fish": "vfio-kit.fish"}
"""How the files of packaging/completions are called, from which the wheel installs them."""

SHELLS: dict[str, type[_Shell]] = {shell.name: shell for shell in (Bash, Zsh, Fish)}


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


def script(shell: str) -> str:
    """What a shell has to source, to complete vfio-kit."""
    return SHELLS[shell](click.Command(PROGRAM), {}, PROGRAM, VARIABLE).source()


def answer(program: click.Command, instruction: str) -> int:
    """Prints what a script asked for with this instruction; returns the exit status."""
    for shell in SHELLS.values():
        add_completion_class(shell)
    return shell_complete(program, {}, PROGRAM, VARIABLE, instruction)
