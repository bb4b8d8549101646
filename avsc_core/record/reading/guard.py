"""A record that fails is told in one line, whatever fails in it and wherever it is asked."""

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from avsc_core.errors import EnvironmentFault, Fault, LeaseLost, UserError
from avsc_core.record.address import hide_secrets
from avsc_core.record.reading.stored import NoSuchRun

Class = TypeVar("Class")

# What MLflow answers where the same write would be refused again: its run was deleted, for example.
REFUSALS = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST")


class Refused(EnvironmentFault):
    """The record answers, and does not accept what it is asked."""


def report_record_faults(record: type[Class]) -> type[Class]:
    """Make every public method of a class raise a failing record as an EnvironmentFault of one
    line."""

    def guard(method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            if self.lost:
                raise LeaseLost(Fault("record", self.lost, todo="the study goes on there"))
            if self.away:
                raise EnvironmentFault(Fault("record", self.away))
            try:
                return method(self, *args, **kwargs)
            except UserError:
                raise
            except list_failures() as error:
                # SQLAlchemy adds the statement, which is a page long.
                reason = str(error).partition("\n[SQL: ")[0]
                what = hide_secrets(f"{self.uri}: {reason}")
                fault = Fault("record", what, todo="the same command continues")
                raise (Refused if _is_refused(error) else EnvironmentFault)(fault) from None

        return call

    for name, method in list(vars(record).items()):
        if callable(method) and not name.startswith("_"):
            setattr(record, name, guard(method))
    return record


def list_failures() -> tuple[type[Exception], ...]:
    """Return what a record that fails may raise; of MLflow's only where MLflow is in use."""
    failures: tuple[type[Exception], ...] = (SQLAlchemyError, OSError, NoSuchRun)
    mlflow = sys.modules.get("mlflow.exceptions")
    return (*failures, mlflow.MlflowException) if mlflow else failures


def _is_refused(error: Exception) -> bool:
    """Tell whether the same call would be refused again."""
    return isinstance(error, NoSuchRun) or getattr(error, "error_code", "") in REFUSALS
