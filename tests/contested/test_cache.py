CLIPS = ("a", "../up", "b/c", ".hidden", "ünï")


def cached(path, means, targets, classes=5, clips=CLIPS) -> CondensedCache:
    cache = CondensedCache(path, "digest", ["g0", "g1", "g2"], [f"c{c}" for c in range(classes)])
    for video, chunk in zip(
        CLIPS, np.array_split(np.arange(means.shape[2]), len(CLIPS)), strict=True
    ):
        if video in clips:
            parts = np.array_split(chunk, 3)  # a video comes in parts
            cache.write(
                video,
                (
                    condense(np.ascontiguousarray(means[:, :, p]), targets[p], classes, ignore=255)
                    for p in parts
                ),
            )
    return cache


def test_cache_gives_back_the_same_set_in_memory_and_streamed(tmp_path):
    means, targets, weights = (
        probabilities(3, 5, 4000, agree=1.0),
        some_targets(5, 4000),
        some_weights(3),
    )
    expected = np.stack([brute_force(means, targets, w) for w in weights])
    cache = cached(tmp_path / "c.zarr", means, targets)
    assert {entry.name for entry in tmp_path.iterdir()} == {"c.zarr"}
    whole, streamed = cache.load(CLIPS), cache.load(CLIPS, memory=60_000)
    assert whole.resident
    assert not streamed.resident
    assert len(list(streamed.batches())) > 5
    assert max(sum(run.nbytes for _, run in batch.runs) for batch in streamed.batches()) <= 15_000
    for condensed in (whole, streamed):
        assert np.array_equal(condensed.confusions(weights), expected)
        assert np.array_equal(condensed.confusion(weights[0]), whole.confusion(weights[0]))
        assert np.array_equal(condensed.miou(weights), miou(expected))
        assert condensed.subset(["b/c"]).contested == whole.subset(["b/c"]).contested > 0


def test_an_interrupted_build_goes_on(tmp_path, monkeypatch):
    means, targets = probabilities(3, 5, 1000), some_targets(5, 1000)
    cache = cached(tmp_path / "c", means, targets, clips=CLIPS[:2])

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr("fusion.contested.cache._commit", die)
        with pytest.raises(KeyboardInterrupt):
            cached(tmp_path / "c", means, targets, clips=CLIPS[2:3])
    assert cache.missing(CLIPS) == list(CLIPS[2:])
    with pytest.raises(StoreError, match="3 videos are not condensed yet, first 'b/c'"):
        cache.load(CLIPS)
    again = cached(
        tmp_path / "c", means, targets, clips=CLIPS[1:]
    )  # writes one of them a second time
    assert again.missing(CLIPS) == []
    assert np.array_equal(
        again.load(CLIPS).confusions([[1, 1, 1]])[0], brute_force(means, targets, [1, 1, 1])
    )


def test_cache_of_other_data_is_refused(tmp_path):
    CondensedCache(tmp_path / "c", "one", ["g"], ["x"])
    for other in (("two", ["g"], ["x"]), ("one", ["h"], ["x"]), ("one", ["g"], ["x", "y"])):
        with pytest.raises(StoreError, match=r"another (digest|groups|classes)"):
            CondensedCache(tmp_path / "c", *other)
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="cannot be used"):
        CondensedCache(tmp_path / "file", "one", ["g"], ["x"])


@pytest.mark.parametrize("array", ["constant", "values"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "delete"])
def test_damage_is_noticed(tmp_path, array, damage):
    cache = cached(tmp_path / "c", probabilities(3, 5, 2000, agree=1.0), some_targets(5, 2000))
    chunk = next(
        path
        for path in sorted((tmp_path / "c" / video_key("a") / "000002" / array / "c").rglob("*"))
        if path.is_file()
    )
    raw = bytearray(chunk.read_bytes())
    raw[3] ^= 16
    {
        "flip": lambda: chunk.write_bytes(raw),
        "truncate": lambda: chunk.write_bytes(raw[:-9]),
        "delete": chunk.unlink,
    }[damage]()
    with pytest.raises(CorruptStoreError, match="delete this folder"):
        cache.load(CLIPS)
    with pytest.raises(CorruptStoreError):
        cache.load(CLIPS, memory=60_000).confusions([[1, 1, 1]])


def test_a_video_without_contested_pixels_on_disk(tmp_path):
    means, targets = np.full((3, 5, 50), 0.2, np.float32), np.ones(50, np.uint8)
    condensed = cached(tmp_path / "c", means, targets).load(CLIPS, memory=0)
    assert condensed.confusions([[1, 1, 1]])[0, 1, 0] == 50
