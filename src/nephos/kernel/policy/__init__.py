"""Who may do what: oslo.policy's language, names and files, compiled once to closures."""

from nephos.kernel.policy.book import Policies
from nephos.kernel.policy.enforcer import Decision, Effective, Policy
from nephos.kernel.policy.explain import Explanation
from nephos.kernel.policy.names import role_set
from nephos.kernel.policy.overrides import Rule

__all__ = ["Decision", "Effective", "Explanation", "Policies", "Policy", "Rule", "role_set"]
