"""Ready templates, by name."""

import pytest

from llm_esr.config import EmbedConfig
from llm_esr.semantics import embed_key
from llm_esr.semantics.prompts import item_prompts, user_prompts
from llm_esr.semantics.templates import ITEM_TEMPLATES, USER_TEMPLATES


def test_a_column_that_the_data_set_lacks_reads_unknown(shop):
    prompts = dict(zip(shop.item_ids, item_prompts(shop, "fashion"), strict=True))
    assert prompts["a"] == (
        "A fashion article. Title: red running shoes. Brand: Norvik. Price: unknown. Features: unknown. "
        "Description: unknown"
    )


def test_a_ready_template_that_fits_no_column_is_refused(make_shop):
    import polars as pl

    shop = make_shop(items=pl.DataFrame({"item_id": ["a", "b", "c", "d"], "colour": ["red", "blue", "green", "grey"]}))
    with pytest.raises(ValueError, match=r"item_template 'beauty' reads the columns title, .*there are: colour"):
        item_prompts(shop, "beauty")


@pytest.mark.parametrize("name", sorted(USER_TEMPLATES))
def test_a_ready_user_template_lists_the_training_titles_in_order(shop, name):
    prompt = next(user_prompts(shop, [0], name))
    assert "earliest first: red running shoes; blue running shoes." in prompt
    assert "espresso" not in prompt  # held out


def test_long_texts_of_ready_templates_are_cut(shop):
    assert max(map(len, item_prompts(shop, "beauty", 40))) == 40


def test_there_is_a_template_for_users_wherever_there_is_one_for_items():
    assert set(ITEM_TEMPLATES) == set(USER_TEMPLATES) == {"yelp", "fashion", "beauty"}


def test_a_name_and_its_words_have_the_same_key_and_other_words_another(shop):
    by_name = embed_key(shop, EmbedConfig(user_template="beauty"))
    assert by_name == embed_key(shop, EmbedConfig(user_template=USER_TEMPLATES["beauty"]))
    assert by_name != embed_key(shop, EmbedConfig(user_template="yelp"))


def test_a_mistyped_name_is_answered_with_the_names(shop):
    with pytest.raises(ValueError, match=r"'beuty' names no column; .*ready template: yelp, fashion, beauty"):
        item_prompts(shop, "beuty")
