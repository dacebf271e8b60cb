"""The pictures of a report: where the reward is high, before and after the flywheel.

In the manner of Figure 1 of the paper: yellow is a low reward and purple a high one, dark dots
are expert states, hollow red circles are flaws. One feature is drawn as a curve, two as a map with
the limits of the norms, three as a cloud of cells. Of wider states two features are drawn, and the
features that are not drawn are taken from the expert state that is nearest in those that are.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from iirl_engine.builtin.plot import png
from iirl_engine.builtin.scene import Panel, Scene, columns_of, panel_of, scene_of
from iirl_engine.picture import Picture
from iirl_engine.records import Demonstrations, Report


@attrs.frozen
class Landscape:
    """The reward of release 0 and of the newest release, drawn alike.

    Parameters
    ----------
    before
        Release 0 with all confirmed flaws.
    after
        The newest release with the flaws that it still endorses.
    caption
        How to read both.
    """

    before: Picture
    after: Picture
    caption: str


def draw(report: Report, features: Sequence[str] | None = None) -> Landscape:
    """Draw a report's rewards; the same report gives the same bytes.

    Parameters
    ----------
    report
        What to draw.
    features
        One to three names of features to draw. By default all of them when there are at most
        three, else the two whose expert states span most of the domain, earlier columns first
        where several span alike (to a hundredth).

    Raises
    ------
    UsageError
        When `features` are not one to three different names of features.
    """
    data = report.after.demonstrations
    scene = scene_of(report.after, columns_of(report, features), report.floor)
    flaws = report.flaws.states
    still_open = flaws[report.still_open]
    before = panel_of(scene, report.before, "Release 0, as learned", flaws, "confirmed flaw")
    name = report.outcome.release.name
    newest = f"Release {int(name)}" if name.isdigit() else "Newest release"
    after = panel_of(scene, report.after, newest, still_open, "flaw", " still open")
    return Landscape(
        Picture(png(scene, before, _subtitle(before)), f"Before: {_alt(scene, before, data)}"),
        Picture(png(scene, after, _subtitle(after)), f"After: {_alt(scene, after, data)}"),
        _caption(scene, before, after, data),
    )


def _alt(scene: Scene, panel: Panel, data: Demonstrations) -> str:
    kind = {1: "curve", 2: "map", 3: "cloud of cells"}[len(scene.axes)]
    text = (
        f"{panel.title}. A {kind} of the reward over {scene.names}, yellow where it is low and "
        f"purple where it is high, with {len(data.states):,} expert states as dark dots. The "
        f"reward endorses {_share(panel.endorsed)} of the space shown; {panel.counts}"
    )
    if not panel.flaws:
        return text + "."
    outside = "" if len(panel.circles) == panel.flaws else f", {len(panel.circles):,} of them"
    return f"{text}{outside} circled in red."


def _caption(scene: Scene, before: Panel, after: Panel, data: Demonstrations) -> str:
    parts = [f"Reward over {scene.names}, from yellow (0) to purple (1)."]
    if len(scene.axes) == 3:
        parts.append(f"Only cells with a reward above the floor {scene.floor:g} are drawn.")
    if len(scene.axes) == 2:
        parts.append(f"The thin line is the floor {scene.floor:g}: inside it states are endorsed.")
    if scene.bounded:
        parts.append("The dashed line is where the norms begin to forbid.")
    if len(scene.axes) == 1:
        parts.append(f"The dashed line is the floor {scene.floor:g}.")
    if scene.projected:
        parts.append(
            "The features that are not drawn are those of the expert state nearest in those "
            "that are, so the picture shows the reward of plausible states; a flaw's own other "
            "features may differ."
        )
    shown = len(scene.shown)
    if shown < len(data.states):
        parts.append(f"{shown:,} of {len(data.states):,} expert states are drawn.")
    for panel, when in ((before, "before"), (after, "after")):
        if len(panel.circles) < panel.flaws:
            parts.append(
                f"{len(panel.circles):,} of {panel.flaws:,} flaws are circled {when}, spread as "
                "evenly as they lie."
            )
    return " ".join(parts)


def _subtitle(panel: Panel) -> str:
    return f"{panel.counts} · {_share(panel.endorsed)} of this space endorsed"


def _share(share: float) -> str:
    if 0 < share < 0.001:
        return "< 0.1 %"
    return f"{100 * share:.1f} %" if share < 0.1 else f"{100 * share:.0f} %"
