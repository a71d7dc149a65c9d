from __future__ import annotations

import multiprocessing
import threading
import time

import numpy as np
import pytest

from pmtrain.data.dataset import Sample
from pmtrain.data.images.read import read_image
from pmtrain.data.loading import loader as loading
from pmtrain.data.loading import workers
from pmtrain.data.loading.loader import Loader
from pmtrain.data.preprocessing.augment import Augment
from pmtrain.data.preprocessing.preprocess import Preprocess
from pmtrain.system.errors import PmtrainError

PREPROCESS = Preprocess(size=32)


@pytest.fixture
def samples(tmp_path, make_image) -> list[Sample]:
    """23 images with names of several scripts."""
    names = [f"{word} {number}.jpg" for number, word in enumerate(["eye", "眼底", "глаз"] * 8)]
    return [Sample(make_image(tmp_path / "im ages" / name, seed), seed % 2) for seed, name in enumerate(names[:23])]


def spoil(sample: Sample) -> None:
    sample.path.write_bytes(sample.path.read_bytes()[:-30])


def names(batch) -> list[str]:
    return [sample.path.name for sample in batch.samples]


def same(ours, theirs) -> None:
    for batch, other in zip(ours, theirs, strict=True):
        assert (batch.index, batch.samples) == (other.index, other.samples)
        np.testing.assert_array_equal(batch.images, other.images)
        np.testing.assert_array_equal(batch.labels, other.labels)


def test_batches_hold_the_samples_in_order(samples):
    with Loader(samples, PREPROCESS, 5) as loader:
        assert len(loader) == 5
        for epoch in range(2):
            batches = list(loader.epoch(epoch))
            assert [batch.index for batch in batches] == [0, 1, 2, 3, 4]
            assert [sample for batch in batches for sample in batch.samples] == samples
            assert [len(batch.samples) for batch in batches] == [5, 5, 5, 5, 3]
            for batch in batches:
                count = len(batch.samples)
                assert batch.images.shape == (count, 3, 32, 32) and batch.images.dtype == np.float32
                assert batch.labels.shape == (count, 1) and batch.labels.dtype == np.float32
                assert batch.labels.ravel().tolist() == [sample.label for sample in batch.samples]
                for sample, image in zip(batch.samples, batch.images, strict=True):
                    pixels = PREPROCESS.resize(read_image(sample.path))
                    np.testing.assert_array_equal(image, PREPROCESS.normalise(pixels[None])[0])


def test_batches_can_be_kept(samples):
    with Loader(samples, PREPROCESS, 5) as loader:
        first = list(loader.epoch(0))
        kept = [batch.images.copy() for batch in first]
        for batch in loader.epoch(1):
            batch.images[:] = 0  # a caller's own business
        same(loader.epoch(2), first)
        assert all((batch.images == copy).all() for batch, copy in zip(first, kept, strict=True))


def test_every_epoch_is_shuffled_anew_and_holds_every_sample(samples):
    orders = []
    with Loader(samples, PREPROCESS, 4, seed=3, shuffle=True) as loader:
        for epoch in range(4):
            order = [sample.path.name for batch in loader.epoch(epoch) for sample in batch.samples]
            assert sorted(order) == sorted(sample.path.name for sample in samples)
            orders.append(order)
    assert len({tuple(order) for order in orders}) == 4
    with Loader(samples, PREPROCESS, 4, seed=4, shuffle=True) as loader:
        assert [sample.path.name for batch in loader.epoch(0) for sample in batch.samples] != orders[0]


@pytest.mark.parametrize("count", [1, 3])
def test_the_number_of_workers_changes_nothing(samples, count):
    for limit in (None, 0):
        options = {"seed": 1, "shuffle": True, "cache_limit_bytes": limit}
        with (
            Loader(samples, PREPROCESS, 4, workers=0, **options) as alone,
            Loader(samples, PREPROCESS, 4, workers=count, **options) as helped,
        ):
            for epoch in range(2):
                same(helped.epoch(epoch), alone.epoch(epoch))


@pytest.mark.parametrize("count", [0, 2])
def test_an_epoch_is_resumed_at_any_batch(samples, count):
    with Loader(samples, PREPROCESS, 4, seed=5, shuffle=True) as loader:
        whole = {epoch: list(loader.epoch(epoch)) for epoch in (0, 3)}
    for epoch, first in ((0, 0), (3, 1), (3, 5), (0, 6)):
        with Loader(samples, PREPROCESS, 4, workers=count, seed=5, shuffle=True) as fresh:
            same(fresh.epoch(epoch, first), whole[epoch][first:])


def test_an_epoch_left_early_does_no_harm(samples):
    with Loader(samples, PREPROCESS, 4, workers=2, seed=5, shuffle=True) as loader:
        first = next(loader.epoch(0))
        assert multiprocessing.active_children()
        batches = loader.epoch(1)
        next(batches)
        batches.close()
        same([next(loader.epoch(0))], [first])


def test_an_image_is_decoded_once(samples, decoded):
    with Loader(samples, PREPROCESS, 4, seed=5, shuffle=True) as loader:
        next(loader.epoch(7))  # left early
        for epoch in range(3):
            list(loader.epoch(epoch))
    assert sorted(decoded) == sorted(sample.path.name for sample in samples)


def test_a_second_version_of_each_image_follows_the_first_and_nothing_is_decoded_twice(samples, decoded):
    first, second = Augment("camera", 1), Augment("camera", 2)
    with Loader(samples, PREPROCESS, 4, seed=5, shuffle=True, augment=first, again=second) as loader:
        batches = list(loader.epoch(3))
    assert sorted(decoded) == sorted(sample.path.name for sample in samples)
    for batch in batches:
        places = [samples.index(sample) for sample in batch.samples]
        pixels = [PREPROCESS.resize(read_image(sample.path)) for sample in batch.samples]
        versions = [
            change(image, 3, place) for change in (first, second) for image, place in zip(pixels, places, strict=True)
        ]
        np.testing.assert_array_equal(batch.images, PREPROCESS.normalise(np.stack(versions)))
        assert len(batch.labels) == len(batch.samples) == len(batch.images) // 2


def test_when_all_images_are_kept_the_workers_are_gone_and_the_files_are_not_read(samples):
    with Loader(samples, PREPROCESS, 4, workers=2, seed=5, shuffle=True) as loader:
        batches = loader.epoch(0)
        next(batches)
        assert len(multiprocessing.active_children()) == 2
        first = list(batches)
        assert not multiprocessing.active_children()
        for sample in samples:
            sample.path.unlink()
        same(list(loader.epoch(0))[1:], first)
        assert len(list(loader.epoch(1))) == 6
        assert not multiprocessing.active_children()


def test_the_memory_limit_is_kept(samples, decoded):
    room = 10
    with Loader(samples, PREPROCESS, 4, seed=5, shuffle=True, cache_limit_bytes=room * 32 * 32 * 3 + 1) as loader:
        for epoch in range(3):
            list(loader.epoch(epoch))
    assert len(decoded) == 23 + 2 * (23 - room)
    assert len(set(decoded)) == 23


def test_work_ahead_is_bounded(samples, decoded):
    with Loader(samples, PREPROCESS, 2, cache_limit_bytes=0) as loader:
        next(loader.epoch(0))
    assert len(decoded) <= 2 + 2 + 4  # a batch, the next, which is being made, and what is requested ahead


@pytest.mark.parametrize("count", [0, 2])
def test_a_bad_image_stops_by_name_with_the_way_out(samples, count):
    spoil(samples[9])
    spoil(samples[14])  # the first in order is named, whoever is decoded first
    with Loader(samples, PREPROCESS, 4, workers=count, name_of=lambda sample: f"<{sample.path.name}>") as loader:
        batches = loader.epoch(0)
        next(batches), next(batches)
        with pytest.raises(PmtrainError) as caught:
            next(batches)
    assert f"<{samples[9].path.name}>" in str(caught.value)
    assert "truncated" in str(caught.value) and "--on-bad-image skip" in str(caught.value)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("count", [0, 2])
def test_a_bad_image_is_left_out_and_noted_once(samples, count):
    for index in (2, 8, 9, 10, 11):  # 8 to 11 are the whole third batch
        spoil(samples[index])
    with Loader(samples, PREPROCESS, 4, workers=count, on_bad_image="skip") as loader:
        for epoch in range(2):
            batches = list(loader.epoch(epoch))
            assert [batch.index for batch in batches] == [0, 1, 3, 4, 5]
            assert batches[0].samples == [samples[0], samples[1], samples[3]]
            assert batches[0].images.shape[0] == batches[0].labels.shape[0] == 3
        assert [sample for sample, _ in loader.bad_images] == [samples[index] for index in (2, 8, 9, 10, 11)]
        assert all("truncated" in reason for _, reason in loader.bad_images)
        assert not multiprocessing.active_children()


def test_a_missing_image_is_bad(samples):
    samples[0].path.unlink()
    with Loader(samples, PREPROCESS, 4) as loader, pytest.raises(PmtrainError, match="No such file"):
        next(loader.epoch(0))


def test_nothing_but_bad_images_is_refused(samples):
    for sample in samples:
        spoil(sample)
    with (
        Loader(samples, PREPROCESS, 4, on_bad_image="skip") as loader,
        pytest.raises(PmtrainError, match="none of the 23"),
    ):
        list(loader.epoch(0))


def test_no_samples_make_no_batches():
    with Loader([], PREPROCESS, 4, workers=2, shuffle=True) as loader:
        assert len(loader) == 0 and list(loader.epoch(0)) == []


def test_an_exception_in_the_loop_leaves_no_worker(samples):
    with pytest.raises(ZeroDivisionError), Loader(samples, PREPROCESS, 2, workers=2) as loader:
        for _ in loader.epoch(0):
            raise ZeroDivisionError
    assert not multiprocessing.active_children()


def test_a_closed_loader_can_go_on(samples):
    loader = Loader(samples, PREPROCESS, 4, workers=1)
    first = next(loader.epoch(0))
    loader.close()
    loader.close()
    same([next(loader.epoch(0))], [first])
    loader.close()
    assert not multiprocessing.active_children()


def test_a_patient_loader_starts_no_workers_for_what_decodes_in_no_time(samples):
    with Loader(samples, PREPROCESS, 4, workers=2, patient=True, cache_limit_bytes=0) as loader:
        for epoch in range(3):
            list(loader.epoch(epoch))
            assert not multiprocessing.active_children()


@pytest.mark.parametrize("limit", [None, 0])
def test_a_patient_loader_starts_workers_for_slow_images_and_loses_none(samples, monkeypatch, limit):
    monkeypatch.setattr(loading, "WORTH_A_PIPE", 0.0)
    monkeypatch.setattr(loading, "WORTH_A_START", 0.0)
    many = samples * 3
    options = {"seed": 1, "shuffle": True, "cache_limit_bytes": limit}
    with (
        Loader(many, PREPROCESS, 4, workers=2, patient=True, **options) as patient,
        Loader(many, PREPROCESS, 4, **options) as alone,
    ):
        started = set()
        for ours, theirs in zip(patient.epoch(0), alone.epoch(0), strict=True):
            same([ours], [theirs])
            started.add(len(multiprocessing.active_children()))
        assert max(started) > 0
        same(patient.epoch(1), alone.epoch(1))
    assert not multiprocessing.active_children()


def test_an_unknown_rule_for_bad_images_is_refused(samples):
    with pytest.raises(ValueError, match="ignore"):
        Loader(samples, PREPROCESS, 4, on_bad_image="ignore")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ichallenge-pm-224", "dr-native"])
def test_real_images_come_the_same_from_workers(real_data, name):
    paths = sorted(path for path in (real_data / name).rglob("*.jpg"))[:48]
    samples = [Sample(path, 0) for path in paths]
    with Loader(samples, Preprocess(), 10, workers=2) as helped, Loader(samples, Preprocess(), 10) as alone:
        same(helped.epoch(0), alone.epoch(0))


def test_the_next_batch_is_made_while_this_one_is_used(samples):
    made = {index: threading.Event() for index in range(len(samples))}

    class Watched(Augment):
        def __call__(self, image, epoch, index, repeat=0):
            made[index].set()
            return image

    with Loader(samples, PREPROCESS, 4, augment=Watched("light", 0)) as loader:
        batches = loader.epoch(0)
        assert next(batches).samples == samples[:4]
        assert all(made[index].wait(60) for index in range(4, 8))
        assert not any(made[index].is_set() for index in range(8, len(samples)))
        assert [batch.index for batch in batches] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("sampler", ["shuffle", "balanced"])
def test_processes_share_each_batch(samples, sampler):
    """Three processes get the images of one process, changed alike, also where a share is empty; from any batch on."""
    options = {"seed": 3, "shuffle": True, "sampler": sampler, "augment": Augment("light", 3)}
    with Loader(samples, PREPROCESS, 2, **options) as loader:
        whole = list(loader.epoch(1))
    shares = []
    for rank in range(3):
        with Loader(samples, PREPROCESS, 2, share=(rank, 3), **options) as loader:
            shares.append(list(loader.epoch(1)))
            assert [batch.samples for batch in loader.epoch(1, 2)] == [batch.samples for batch in shares[rank][2:]]
    for batch, *parts in zip(whole, *shares, strict=True):
        assert [part.index for part in parts] == [batch.index] * 3
        assert sum((part.samples for part in parts), []) == batch.samples
        np.testing.assert_array_equal(np.concatenate([part.images for part in parts]), batch.images)
        np.testing.assert_array_equal(np.concatenate([part.labels for part in parts]), batch.labels)


def test_processes_share_a_pass_in_order_by_whole_batches(samples):
    with Loader(samples, PREPROCESS, 3) as loader:
        whole = [batch.samples for batch in loader.epoch(0)]
    for rank in range(2):
        with Loader(samples, PREPROCESS, 3, share=(rank, 2)) as loader:
            assert [batch.samples for batch in loader.epoch(0)] == whole[rank::2]
            assert [loader.samples[place] for place in loader.own_places()] == sum(whole[rank::2], [])


def test_an_image_that_lets_wait_is_named_and_waited_for(samples, monkeypatch, capsys):
    slow = samples[2].path

    def decode(path, *arguments):
        if path == slow:
            time.sleep(0.2)
        return workers_decode(path, *arguments)

    workers_decode = workers.decode
    monkeypatch.setattr(workers, "decode", decode)
    monkeypatch.setattr(loading, "PATIENCE", 0.05)
    with Loader(samples, Preprocess(size=32), 4, workers=0, name_of=lambda sample: sample.path.name) as loader:
        assert sum(len(batch.samples) for batch in loader.epoch(0)) == len(samples)
    assert f"{slow.name}: waiting for it for 0.05 s" in capsys.readouterr().err
