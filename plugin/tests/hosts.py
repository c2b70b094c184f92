"""The VST3 in real hosts: pedalboard and DawDreamer. Run by hosts.rs, which makes the files it reads.

usage: hosts.py BUNDLE FOLDER [TEST...]

FOLDER holds input.f32 and coded.f32: two channels of 48 kHz sound after each other, and what the engine
makes of them by encoding and decoding.
"""

import pathlib
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from pedalboard import load_plugin

RATE = 48_000
bundle, folder = sys.argv[1], pathlib.Path(sys.argv[2])
sound = np.fromfile(folder / "input.f32", np.float32).reshape(2, -1)
coded = np.fromfile(folder / "coded.f32", np.float32).reshape(2, -1)


def load():
    return load_plugin(bundle)


def same(a, b, what):
    assert a.shape == b.shape, f"{what}: {a.shape} {b.shape}"
    worst = float(np.max(np.abs(a - b))) if a.size else 0.0
    assert worst == 0.0, f"{what}: differs by up to {worst}"


def proper(samples, what):
    assert np.all(np.isfinite(samples)), f"{what}: NaN or infinity"
    tiny = (samples != 0) & (np.abs(samples) < np.finfo(np.float32).tiny)
    assert not tiny.any(), f"{what}: subnormal numbers"


def resynthesis(plugin):
    # pedalboard takes the reported latency out.
    same(plugin(sound, RATE, buffer_size=512), coded, "stereo against encode and decode")
    same(plugin(sound[:1], RATE, buffer_size=512), coded[:1], "mono against encode and decode")


def block_sizes(plugin):
    short = sound[:, :6000]
    first = plugin(short, RATE, buffer_size=8192)
    for size in [1, 7, 64, 480, 1000, 4096]:
        same(plugin(short, RATE, buffer_size=size), first, f"blocks of {size}")


def rates(plugin):
    latency = []
    for rate in [44_100, 88_200, 96_000, 192_000, 11_025, 37_777.5]:
        out = plugin(sound[:, :8000], rate, buffer_size=512)
        proper(out, f"{rate} Hz")
        assert np.abs(out).max() > 0.01, f"{rate} Hz: silent"
        same(plugin(sound[:, :8000], rate, buffer_size=100), out, f"{rate} Hz in blocks of 100")
        latency.append(plugin.reported_latency_samples)
    assert latency[0] < latency[1] < latency[2] < latency[3], latency


def parameters(plugin):
    names = set(plugin.parameters)
    for name in ["levels", "coarse", "freeze_fine", "smear", "mutate", "mix", "limiter", "packet_loss"]:
        assert name in names, f"no parameter {name} in {sorted(names)}"
    levels = plugin.parameters["levels"]
    texts = [levels.get_text_for_raw_value(value) for value in (0.0, 1.0)]
    assert texts == ["1 (0.25 kbps)", "7 (5.25 kbps)"], texts
    plugin.mix = 0.0
    same(plugin(sound, RATE), sound, "the dry sound")
    plugin.mix = 100.0
    plugin.bypass = True
    same(plugin(sound, RATE), sound, "bypass")
    plugin.bypass = False


def state(plugin):
    plugin.mutate, plugin.levels, plugin.output_db = 37.5, "2 (0.75 kbps)", -3.0
    # pedalboard hands changes over with the next block.
    plugin(sound[:, :64], RATE)
    saved = plugin.raw_state
    out = plugin(sound, RATE)
    other = load()
    other.raw_state = saved
    assert other.raw_state == saved, "the state changes on its way"
    same(other(sound, RATE), out, "the state in another instance")
    proper(out, "mutated")
    return out


def two_at_once(plugin):
    other = load()
    other.mix = 0.0
    for instance in (plugin, other):
        # pedalboard hears of the latency on its main thread alone.
        instance(sound[:, :64], RATE)
    with ThreadPoolExecutor(2) as pool:
        wet, dry = pool.submit(plugin, sound, RATE, 64), pool.submit(other, sound, RATE, 64)
        same(wet.result(), coded, "the wet one of two")
        same(dry.result(), sound, "the dry one of two")


def reactivation(plugin):
    plugin.reset()
    first = plugin(sound[:, :4000], RATE)
    for _ in range(100):
        plugin.reset()
        plugin(sound[:, :64], RATE)
    same(plugin(sound[:, :4000], RATE), first, "after 100 activations")


def silence(plugin):
    out = plugin(np.concatenate([sound, np.zeros((2, 2 * RATE), np.float32)], 1), RATE)
    assert np.all(out[:, -RATE // 4 :] == 0.0), "silence is not digital silence"


def hostile(plugin):
    rng = np.random.default_rng(3)
    bad = rng.standard_normal((2, 4800)).astype(np.float32)
    bad[:, ::7] = 1e-40
    bad[:, ::11] = np.nan
    bad[:, ::13] = np.inf
    bad[:, ::17] = 3e38
    plugin.limiter, plugin.ceiling_db = True, -6.0
    out = plugin(bad, RATE)
    proper(out, "hostile input")
    assert np.abs(out).max() <= 10 ** (-6 / 20) * 1.000001, np.abs(out).max()


def random_parameters(plugin):
    rng = np.random.default_rng(4)
    names = [name for name in plugin.parameters if name not in ("bypass", "model")]
    for _ in range(25):
        for name in names:
            plugin.parameters[name].raw_value = float(rng.choice([0.0, 1.0, rng.random()]))
        proper(plugin(sound[:, :3000], RATE, buffer_size=int(rng.integers(1, 2000)), reset=False), "random parameters")


def dawdreamer():
    import dawdreamer as daw

    engine = daw.RenderEngine(RATE, 512)
    source = engine.make_playback_processor("source", sound)
    plugin = engine.make_plugin_processor("tessera", bundle)
    engine.load_graph([(source, []), (plugin, ["source"])])
    latency = plugin.get_latency_samples()
    seconds = sound.shape[1] / RATE
    engine.render(seconds)
    out = engine.get_audio()
    # DawDreamer leaves the latency in.
    length = min(out.shape[1], sound.shape[1]) - latency
    same(out[:, latency : latency + length], coded[:, :length], "DawDreamer")
    # Automation: from the codec to the dry sound in the middle, sample by sample.
    mix = next(p["index"] for p in plugin.get_parameters_description() if p["name"] == "Mix")
    half = sound.shape[1] // 2
    plugin.set_automation(mix, np.repeat([1.0, 0.0], [half, sound.shape[1] - half]).astype(np.float32), ppqn=0)
    engine.render(seconds)
    out = engine.get_audio()
    proper(out, "automation")
    settled = half + 4800
    length = out.shape[1] - settled
    same(out[:, settled:], sound[:, settled - latency : settled - latency + length], "automated to dry")


TESTS = [resynthesis, block_sizes, rates, parameters, state, two_at_once, reactivation, silence, hostile,
         random_parameters]

for test in TESTS:
    if len(sys.argv) <= 3 or test.__name__ in sys.argv[3:]:
        test(load())
        print("pedalboard:", test.__name__.replace("_", " "), flush=True)
dawdreamer()
print("DawDreamer: resynthesis, automation", flush=True)
