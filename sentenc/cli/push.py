"""The command ``sentenc push``: uploads a model to the Hugging Face Hub."""

import os

import click

from sentenc.cli.model_options import load_model, model_options


@click.command("push")
@click.argument("model")
@click.argument("repository", metavar="OWNER/NAME")
@click.option("--private", is_flag=True, help="Make a new repository private.")
@click.option("--revision", metavar="BRANCH", help="Branch to write to, by default main.")
@click.option("--create-pr", is_flag=True, help="Open a pull request instead of writing to the branch.")
@click.option("-m", "--message", help="Message of the commit.")
@click.option("--license", "license_name", help="License in the model card, such as apache-2.0.")
@click.option("--language", help="Language in the model card, such as en.")
@click.option(
    "--base-model", multiple=True, metavar="ID", help="Base model in the model card. May be repeated."
)
@click.option("--dataset", multiple=True, metavar="ID", help="Data set in the model card. May be repeated.")
@click.option("--token-env", default="HF_TOKEN", show_default=True, metavar="VARIABLE",
              help="Environment variable with the access token. Without it, the token of `hf auth login` is used.")  # fmt: skip
@model_options
def push_command(
    model: str,
    repository: str,
    private: bool,
    revision: str | None,
    create_pr: bool,
    message: str | None,
    license_name: str | None,
    language: str | None,
    base_model: tuple[str, ...],
    dataset: tuple[str, ...],
    token_env: str,
    **options: str | None,
) -> None:
    """Upload MODEL to the repository OWNER/NAME of the Hugging Face Hub, and print the address.

    MODEL is a folder, or the name of a shipped model. The repository is made if it does not exist. The model card gets
    the data that the Hub reads: license, language, base model, data sets and scores, as far as the metadata of the
    model have them. Options replace them.
    """
    encoder = load_model(model, **options)
    address = encoder.push_to_hub(
        repository,
        private=True if private else None,
        token=os.environ.get(token_env) or None,
        revision=revision,
        create_pr=create_pr,
        commit_message=message,
        license=license_name,
        language=language,
        base_model=list(base_model) or None,
        datasets=list(dataset) or None,
    )
    click.echo(address)
