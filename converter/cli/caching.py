"""The options that name a shared cache of links, and the cache that they stand for."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import click

from converter.cli.registries import access_for
from converter.errors import UsageError
from converter.events import Monitor
from converter.image.reference import RegistryReference
from converter.image.source import SourceOptions
from converter.linkcache import NO_CACHE, LinkCache
from converter.store.layout import Store

_Command = TypeVar("_Command", bound=Callable[..., Any])
_MODES = ("both", "read", "write")


@dataclass(frozen=True, slots=True)
class Caching:
    """Which repository is the cache, and what it is used for; None stands for no cache."""

    repository: RegistryReference | None
    mode: str
    verify: bool


def cache_options(command: _Command) -> _Command:
    """Add the shared cache; the command gets it as `caching`."""

    @functools.wraps(command)
    def with_cache(
        *args: object,
        cache_repo: str | None,
        cache_mode: str,
        cache_verify: bool,
        **others: object,
    ) -> object:
        if cache_repo is None and (cache_verify or cache_mode != _MODES[0]):
            raise UsageError(
                "There is no cache for --cache-mode or --cache-verify.",
                expected="--cache-repo HOST/REPO beside them",
            )
        caching = Caching(_repository(cache_repo), cache_mode, cache_verify)
        return command(*args, caching=caching, **others)

    options = [
        click.option(
            "--cache-repo",
            metavar="HOST/REPO",
            envvar="SALTFLAT_CACHE_REPO",
            show_envvar=True,
            help="Repository of links that others made: take them from there, and put new ones. "
            "Whoever may push to it is trusted for what is in them.",
        ),
        click.option(
            "--cache-mode",
            type=click.Choice(_MODES),
            default=_MODES[0],
            envvar="SALTFLAT_CACHE_MODE",
            show_envvar=True,
            show_default=True,
            help="Take links from the cache, put new ones there, or both.",
        ),
        click.option(
            "--cache-verify",
            is_flag=True,
            envvar="SALTFLAT_CACHE_VERIFY",
            show_envvar=True,
            help="Take nothing from the cache: make every missing link from its layers and compare "
            "it with the cache's; one that differs is an error.",
        ),
    ]
    wrapped = cast("_Command", with_cache)
    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped


@contextmanager
def open_cache(
    caching: Caching, store: Store, access: SourceOptions, *, named: str, monitor: Monitor
) -> Iterator[LinkCache]:
    """Yield the cache that was asked for; nothing is contacted before it is used.

    `named` is the host that a password is for, "" if the command names no other registry.
    """
    reference = caching.repository
    if reference is None:
        yield NO_CACHE
        return
    # Half of what this loads is for pushing; who has no cache need not wait for it.
    from converter.artifact.cache import (  # noqa: PLC0415 - see above
        CacheMode,
        CachePolicy,
        RepositoryCache,
    )
    from converter.registry.artifacts import ArtifactRepository  # noqa: PLC0415 - see above
    from converter.registry.client import RegistryClient  # noqa: PLC0415 - see above

    access = access_for(reference.host, access, named=named or reference.host)
    with RegistryClient(reference.api_host, access) as client:
        yield RepositoryCache(
            ArtifactRepository(client, reference.repository, host=reference.host),
            store,
            CachePolicy(CacheMode(caching.mode), caching.verify),
            monitor=monitor,
        )


def _repository(text: str | None) -> RegistryReference | None:
    if text is None:
        return None
    from converter.artifact.target import parse_target  # noqa: PLC0415 - as in open_cache

    target = parse_target(text)
    if target.tag is not None:
        raise UsageError(
            f"--cache-repo {text} has a tag; links have tags of their own.",
            expected=f"{target.reference.host}/{target.repository}",
        )
    return target.reference
