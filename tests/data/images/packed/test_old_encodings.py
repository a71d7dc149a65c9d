"""The encodings that Excel saves tables in, by country."""

from __future__ import annotations

import pytest

from pmtrain.data.images.packed.old_encodings import likely_encodings


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("gb18030", "图片,标签\n1.png,正常\n2.png,青光眼\n"),
        ("gb18030", "image,label\n1.png,是\n2.png,否\n"),
        ("cp932", "画像,診断\n1.png,正常\n2.png,緑内障\n"),
        ("cp932", "image,label\n1.png,なし\n2.png,あり\n"),
        ("cp950", "圖片,診斷\n1.png,正常\n2.png,青光眼\n"),
        ("cp950", "image,label\n1.png,陰性\n2.png,陽性\n"),
        ("cp949", "파일명,라벨\n1.png,정상\n2.png,녹내장\n"),
        ("cp1251", "файл;метка\n1.png;норма\n2.png;глаукома\n"),
        ("cp1252", "Bild;Befund\n1.png;unauffällig\n2.png;höher\n"),
        ("cp1250", "plik;wynik\n1.png;prawidłowy\n2.png;żółty\n"),
        ("cp1250", "plik;opis\n1.png;żółta\n2.png;żółta\n"),
        ("cp1254", "dosya;etiket\n1.png;sağlıklı\n2.png;değil, ş\n"),
    ],
)
def test_the_likeliest_encoding_is_the_right_one(encoding, text):
    assert likely_encodings(text.encode(encoding))[0] == encoding


def test_words_that_were_to_be_expected_decide_between_equals():
    raw = "정상".encode("cp949")  # in GB 18030 two usual characters, too
    assert likely_encodings(raw)[0] == "gb18030"
    assert likely_encodings(raw, lambda text: text == "정상")[0] == "cp949"
