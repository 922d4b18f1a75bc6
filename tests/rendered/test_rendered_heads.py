"""What stands behind a rendered face: mesh, shapes, expressions, camera, finish; held against closed forms."""

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covpool.rendered import CLASSES, View
from covpool.rendered.accessories import tube
from covpool.rendered.assets import MACRO_ORIGINS, catmull_clark, data_folder, load_assets, load_saved
from covpool.rendered.expressions import ACTION_UNITS, RECIPES, Expression, plain_expression, sample_expression
from covpool.rendered.hair import STYLES, brow_strands, scalp_region, scalp_strands
from covpool.rendered.head import Head, distance_to_line, fit_sphere, vertex_normals
from covpool.rendered.people import sample_person
from covpool.rendered.photograph import over_background, sample_light, sample_view, to_srgb, without_specks
from covpool.rendered.scene import Light, _camera, _surrounding, projected, renderer

CUBE = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)
CUBE_QUADS = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])


@pytest.fixture(scope="module")
def assets():
    return load_assets()


@pytest.fixture(scope="module")
def head(assets):
    person = sample_person(np.random.default_rng(7), assets.target_names.tolist())
    return Head(assets, replace(person, hair_style="short"))


def refined(points, quads):
    children, row_start, columns, weights = catmull_clark(quads, len(points))
    return children, np.add.reduceat(weights[:, None] * points[columns], row_start[:-1], axis=0)


def test_catmull_clark_of_a_cube_is_the_known_one():
    """Corners go to 5/9 (Q + 2R over valence 3), edge points to 3/4, face points to the middle of the face."""
    children, points = refined(CUBE, CUBE_QUADS)
    assert points.shape == (26, 3) and children.shape == (24, 4)
    np.testing.assert_allclose(points[:8], CUBE * 5 / 9, atol=1e-6)
    assert sorted(np.abs(points[8:14]).sum(1)) == pytest.approx([1.0] * 6)
    np.testing.assert_allclose(np.sort(np.abs(points[14:]), axis=1), [[0, 0.75, 0.75]] * 12, atol=1e-6)
    assert (np.bincount(children.ravel(), minlength=26) >= 3).all()
    first, second, third = (points[children[:, i]] for i in range(3))
    outward = (np.cross(second - first, third - first) * first).sum(1)
    assert (outward > 0).all() or (outward < 0).all()


@given(st.lists(st.floats(-3, 3), min_size=12, max_size=12))
def test_refinement_commutes_with_affine_maps(numbers):
    """So that shape targets may be added before it."""
    matrix, offset = np.array(numbers[:9]).reshape(3, 3), np.array(numbers[9:])
    _, plain = refined(CUBE, CUBE_QUADS)
    _, mapped = refined(CUBE @ matrix + offset, CUBE_QUADS)
    np.testing.assert_allclose(mapped, plain @ matrix + offset, atol=1e-4)


def test_border_follows_the_cubic_spline_rule():
    square = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], np.float32)
    _, points = refined(square, np.array([[0, 1, 2, 3]]))
    np.testing.assert_allclose(points[0], [0.125, 0.125, 0], atol=1e-6)  # 3/4 corner + 1/8 of each neighbour
    np.testing.assert_allclose(sorted(map(tuple, points[5:, :2])), [(0, 0.5), (0.5, 0), (0.5, 1), (1, 0.5)], atol=1e-6)


def test_targets_are_the_files_numbers(assets):
    path = data_folder() / "mpfb2/targets/nose/nose-hump-incr.target.gz"
    lines = [x for x in gzip.decompress(path.read_bytes()).decode().splitlines() if x[:1].isdigit()]
    lengths = [np.linalg.norm([float(v) for v in line.split()[1:]]) for line in lines]
    target = assets.targets[assets.target_names.tolist().index("nose/nose-hump-incr")]
    ours = np.linalg.norm(target, axis=1)
    np.testing.assert_allclose(sorted(ours[ours > 0]), sorted(x for x in lengths if x > 0), rtol=1e-5)


def test_saved_assets_are_the_same(assets, tmp_path):
    assets.save(tmp_path / "a.npz")
    again = load_saved(tmp_path / "a.npz")
    for name, value in vars(assets).items():
        np.testing.assert_array_equal(getattr(again, name), value)


def test_an_unknown_target_is_named(assets):
    with pytest.raises(KeyError, match="no shape target named 'third eye'"):
        assets.displaced(assets.base, {"third eye": 1.0})


@given(
    centre=st.lists(st.floats(-10, 10), min_size=3, max_size=3),
    radius=st.floats(0.05, 5),
    seed=st.integers(0, 1000),
)
def test_sphere_fit_recovers_a_sphere(centre, radius, seed):
    directions = np.random.default_rng(seed).standard_normal((40, 3))
    points = np.array(centre) + radius * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    found, size = fit_sphere(points)
    np.testing.assert_allclose(found, centre, atol=1e-6)
    assert size == pytest.approx(radius, abs=1e-6)


def test_normals_of_a_ball_point_outward():
    points, quads = CUBE, CUBE_QUADS[:, ::-1]
    for _ in range(3):
        quads, points = refined(points, quads)
    normals = vertex_normals(points, quads)
    towards = points / np.linalg.norm(points, axis=1, keepdims=True)
    assert np.abs((normals * towards).sum(1)).min() > 0.97
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)


def test_distance_to_a_line():
    line = ((0.0, 0.0), (2.0, 0.0), (2.0, 1.0))
    points = np.array([[1.0, 0.5], [-3.0, 4.0], [2.5, 0.5], [2.0, 3.0]])
    np.testing.assert_allclose(distance_to_line(points, line), [0.5, 5.0, 0.5, 2.0])


def test_every_recipe_uses_known_units_and_every_unit_known_shapes(assets):
    assert tuple(RECIPES) == CLASSES
    shapes = set(assets.target_names.tolist())
    for recipe in (recipe for recipes in RECIPES.values() for recipe in recipes):
        assert set(recipe) <= set(ACTION_UNITS)
    for _, parts in ACTION_UNITS.values():
        for shape in parts:
            assert {shape.replace("*", side) for side in ("Left", "Right")} <= shapes


def moved(head, **units):
    rest, posed = (head.pose(Expression(u)) for u in ({}, {k: (v, v) for k, v in units.items()}))
    return posed.vertices - rest.vertices, posed.landmarks - rest.landmarks


def test_action_units_move_what_they_are_named_for(head):
    _, smile = moved(head, AU12=1.0)
    assert smile[3:, 1].min() > 0.04 and smile[3, 0] < -0.02 and smile[4, 0] > 0.02  # corners up and apart
    _, sad = moved(head, AU15=1.0)
    assert sad[3:, 1].max() < -0.02
    brows = (np.abs(head.template[:, 1] - 7.47) < 0.04) & (head.template[:, 2] > 1.2) & (head.assets.part == 0)
    inner = brows & (np.abs(head.template[:, 0]) < 0.2)
    outer = brows & (np.abs(head.template[:, 0]) > 0.4)
    assert moved(head, AU4=1.0)[0][inner, 1].mean() < -0.02
    raised = moved(head, AU1=1.0)[0]
    assert raised[inner, 1].mean() > 0.02 > raised[outer, 1].mean()
    assert moved(head, AU2=1.0)[0][outer, 1].mean() > 0.02
    chin = (head.template[:, 1] < 6.35) & (head.template[:, 1] > 6.2) & (head.template[:, 2] > 1.3)
    assert moved(head, AU27=1.0)[0][chin, 1].mean() < -0.1


def test_expressions_leave_skull_and_eyeballs_where_they_are(head):
    rest = head.pose(Expression())
    back = head.template[:, 2] < 0.2
    for name in CLASSES:
        posed = head.pose(plain_expression(name))
        assert np.abs(posed.vertices - rest.vertices)[back].max() < 0.02
        np.testing.assert_array_equal(posed.landmarks[:2], rest.landmarks[:2])
        if name != "neutral":
            assert np.abs(posed.vertices - rest.vertices).max() > 0.05


def test_one_side_can_act_alone(head):
    one = head.pose(Expression({"AU12": (1.0, 0.0)})).landmarks - head.pose(Expression()).landmarks
    assert np.linalg.norm(one[4]) > 5 * np.linalg.norm(one[3])  # the person's left is on the image's right


@given(st.sampled_from(CLASSES), st.integers(0, 2**32 - 1))
def test_a_drawn_expression_is_one_of_its_recipes(name, seed):
    drawn = sample_expression(name, np.random.default_rng(seed))
    assert drawn == sample_expression(name, np.random.default_rng(seed))
    strong = {unit for unit in drawn.units if drawn.strength(unit) > 0}
    assert any(set(recipe) <= strong for recipe in RECIPES[name])
    assert all(0 <= side < 3 for sides in drawn.units.values() for side in sides)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_a_person_is_a_proper_mix_of_known_shapes(assets, seed):
    person = sample_person(np.random.default_rng(seed), assets.target_names.tolist())
    assert set(person.shape) <= set(assets.target_names.tolist())
    macro = [name for name in person.shape if name.startswith("macro/")]
    for group in (tuple(f"macro/{o}" for o in MACRO_ORIGINS), ("macro/universal",)):
        assert sum(person.shape[n] for n in macro if n.startswith(group)) == pytest.approx(1)
    for colour in (person.skin, person.hair_colour, person.iris, person.shirt):
        assert 0 < min(colour) and max(colour) <= 1
    assert person.skin[0] >= person.skin[1] >= person.skin[2]  # no skin is green or blue


def test_brows_are_two_and_move_with_the_skin(head):
    rest, frown = (brow_strands(head, head.pose(Expression(u))).points for u in ({}, {"AU4": (1.0, 1.0)}))
    middles = rest.mean(1)
    assert np.abs(middles[:, 0]).min() > 0.05
    assert 0.3 < (middles[:, 0] > 0).mean() < 0.7
    assert (frown - rest)[..., 1].mean() < -0.015


@pytest.mark.parametrize("style", STYLES)
def test_hair_grows_from_the_scalp_and_spares_the_face(assets, head, style):
    person = replace(head.person, hair_style=style)
    other = Head(assets, person)
    points = scalp_strands(other).points
    scalp = other.neutral[scalp_region(other) > 0.2]
    tree = pytest.importorskip("scipy.spatial").cKDTree(scalp)
    assert tree.query(points[:, 0])[0].max() < 0.15
    nose, mouth = assets.landmarks[0], assets.landmarks[1:]
    tips = points.reshape(-1, 3)
    features = np.vstack([other.coarse[nose][None], other.coarse[mouth]])
    assert np.linalg.norm(tips[:, None, :2] - features[None, :, :2], axis=2)[tips[:, 2] > 0.8].min(initial=9) > 0.15


def test_a_tube_is_round():
    path = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]])
    patch = tube(path, 0.1, np.array([0.5, 0.5, 0.5]))
    np.testing.assert_allclose(np.linalg.norm(patch.vertices[:, 1:], axis=1), 0.1, atol=1e-6)
    assert patch.quads.max() < len(patch.vertices)


@settings(max_examples=8, deadline=None)
@given(
    angles=st.tuples(st.floats(-25, 25), st.floats(-12, 12), st.floats(-40, 40)),
    scale=st.floats(0.6, 1.6),
    shift=st.tuples(st.floats(-0.1, 0.1), st.floats(-0.1, 0.1)),
    point=st.tuples(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5), st.floats(-0.5, 0.5)),
)
def test_projection_agrees_with_the_renderers_camera(angles, scale, shift, point):
    """A small ball is drawn where the arithmetic says."""
    mitsuba = renderer()
    view = View(*angles, scale=scale, shift=shift)
    centre = np.array([0.1, 7.0, 0.8])
    picture = mitsuba.render(
        mitsuba.load_dict(
            {
                "type": "scene",
                "integrator": {"type": "path", "max_depth": 2, "hide_emitters": True},
                "sensor": _camera(centre, view, 96),
                "light": _surrounding(Light((1.0, 1.0, 1.0), 1.0, ()), view),
                "ball": {"type": "sphere", "center": (centre + point).tolist(), "radius": 0.1},
            }
        ),
        seed=0,
    )
    cover = np.array(picture)[..., 3]
    rows, columns = np.mgrid[:96, :96] + 0.5
    seen = np.array([(columns * cover).sum(), (rows * cover).sum()]) / cover.sum()
    np.testing.assert_allclose(projected(centre[None] + point, centre, view, 96)[0], seen, atol=0.25)


def test_a_lamp_lights_the_side_it_stands_on():
    """In the camera's frame, whichever way the head is turned."""
    mitsuba = renderer()
    for direction, brighter in (((1, 0, 0), np.s_[:, 48:]), ((-1, 0, 0), np.s_[:, :48]), ((0, 1, 0), np.s_[:48])):
        for view in (View(), View(yaw=25, roll=20)):
            light = Light((0.0, 0.0, 0.0), 1.0, ((direction, 0.4, (5.0, 5.0, 5.0)),))
            picture = mitsuba.render(
                mitsuba.load_dict(
                    {
                        "type": "scene",
                        "integrator": {"type": "path", "max_depth": 2, "hide_emitters": True},
                        "sensor": _camera(np.zeros(3), view, 96),
                        "light": _surrounding(light, view),
                        "ball": {"type": "sphere", "radius": 1.0},
                    }
                ),
                seed=0,
            )
            grey = np.array(picture)[..., :3].mean(2)
            assert grey[brighter].sum() > 0.8 * grey.sum()


@given(st.integers(0, 2**32 - 1))
def test_views_and_lights_stay_in_their_ranges(seed):
    view = sample_view(np.random.default_rng(seed))
    assert abs(view.yaw) <= 25 and abs(view.pitch) <= 12 and abs(view.roll) <= 12
    panorama = sample_light(np.random.default_rng(seed)).panorama()
    assert np.isfinite(panorama).all() and panorama.min() > 0


@given(st.lists(st.floats(0, 50), min_size=2, max_size=20))
def test_the_tone_curve_is_monotone_and_bounded(values):
    shown = to_srgb(np.sort(np.array(values)))
    assert (np.diff(shown) >= 0).all() and shown.min() >= 0 and shown.max() <= 1


def test_the_tone_curve_is_srgb_below_its_shoulder():
    np.testing.assert_allclose(to_srgb(np.array([0.0, 0.0031308, 0.2140, 0.5])), [0, 0.04045, 0.5, 0.7354], atol=2e-4)


def test_lone_pixels_go_and_lines_stay():
    image = np.full((21, 21, 3), 120, np.uint8)
    image[5, 5] = 255
    image[15, :] = 20
    clean = without_specks(image)
    assert (clean[5, 5] == 120).all()
    assert (clean[15, 1:-1] == 20).all()


def test_compositing_keeps_covered_pixels_and_shows_the_rest():
    render = np.zeros((1, 3, 4), np.float32)
    render[0, 0], render[0, 1] = [0.2, 0.3, 0.4, 1.0], [0.1, 0.1, 0.1, 0.5]
    out = over_background(render, np.full((1, 3, 3), 0.6, np.float32))
    np.testing.assert_allclose(out[0, :, 0], [0.2, 0.4, 0.6], atol=1e-6)


def test_the_documentation_lists_the_recipes_as_they_are():
    page = (Path(__file__).parents[2] / "docs/rendered-faces.md").read_text()
    for name, recipes in RECIPES.items():
        cells = [", ".join(f"{unit} {level:g}" for unit, level in recipe.items()) or "none" for recipe in recipes]
        assert f"| {name} | {'<br>'.join(cells)} |" in page
    for unit, (title, shapes) in ACTION_UNITS.items():
        assert f"| {unit} | {title} | {', '.join(f'{shape} {weight:g}' for shape, weight in shapes.items())} |" in page
