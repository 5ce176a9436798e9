import json

import pytest

from hpcstream.checkpoint.json_text import JsonText, dumps


def test_texts_stand_where_their_values_would():
    a, b = [{"id": 'x "1" \\u00001'}], {"nothing": None}

    text = dumps({"a": JsonText(json.dumps(a)), "n": 1, "deep": [{"b": JsonText(json.dumps(b))}]})

    assert json.loads(text) == {"a": a, "n": 1, "deep": [{"b": b}]}


def test_more_than_ten_texts_are_told_apart():
    values = [JsonText(str(number)) for number in range(120)]
    assert json.loads(dumps(values)) == list(range(120))


def test_what_is_not_json_is_refused_by_name():
    with pytest.raises(TypeError, match="set is not a JSON value"):
        dumps({"a": {1}})
