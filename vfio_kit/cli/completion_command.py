"""vfio-kit completion"""

import click


@click.command("completion")
@click.argument("shell", metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the script by which a shell completes commands, options, GPUs, VMs and findings.

    SHELL is bash, zsh or fish.

    \b
    For you alone:
      bash  vfio-kit completion bash > ~/.local/share/bash-completion/completions/vfio-kit
      zsh   vfio-kit completion zsh > ~/.zfunc/_vfio-kit
            with  fpath+=~/.zfunc  before  autoload -U compinit; compinit  in ~/.zshrc
      fish  vfio-kit completion fish > ~/.config/fish/completions/vfio-kit.fish

    \b
    For all users, as root:
      bash  /usr/share/bash-completion/completions/vfio-kit
      zsh   /usr/local/share/zsh/site-functions/_vfio-kit
      fish  /usr/share/fish/vendor_completions.d/vfio-kit.fish

    \b
    For this shell, to try it (bash, zsh; fish):
      source <(vfio-kit completion bash)
      vfio-kit completion fish | source

    In bash the folder is read by the package bash-completion. The wheel brings the same files
    below share/ of where it is installed.
    """
    from vfio_kit.cli.shells import script

    click.echo(script(shell), nl=False)
