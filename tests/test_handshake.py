"""What is read of a handshake before it is accepted."""

from urllib.parse import parse_qsl

from hypothesis import example, given
from hypothesis import strategies as st

from apistar_ws.handshake import query_pairs


@given(st.text(st.sampled_from('ab=&;+% 41é'), max_size=20))
@example('a=1&b=&c&=2&&d=e=f')
@example('a=1+2&b=%41')
def test_the_pairs_of_a_query_string_are_those_of_the_standard_library(query):
    assert query_pairs(query) == parse_qsl(query)
