import pytest

# The contract is no test module of its own; without this its asserts would not say what they compared.
pytest.register_assert_rewrite("tests.host.contract")
