"""How fast are synthetic people rendered? Images per second of one core, in CPU time of one thread.

    python benchmarks/rendering.py            # about a minute
    python benchmarks/rendering.py --quick    # 128 px only, a few seconds

Every person has eight photos and is set up anew in every round, as a data set does; images are rendered, not
written. CPU time is disturbed little by other processes, but shared caches and clocks do count, so the best of
several rounds is given beside their range.
"""

from __future__ import annotations

import argparse
import time

import cv2

from lit_restore.data.synthetic import render_face

PHOTOS_PER_PERSON = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="128 px only, three rounds of five people")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    num_rounds = 3 if options.quick else 6
    sizes = {128: 5} if options.quick else {64: 20, 128: 15, 256: 6, 512: 3}
    print(f"{num_rounds} rounds, {PHOTOS_PER_PERSON} photos per person, OpenCV {cv2.__version__}")
    print(f"{'side':>8}{'images/s, best round':>24}{'range over rounds':>22}")
    for size_px, num_people in sizes.items():
        render_face(1, 0, 0, size_px)  # fills the tables that do not depend on the person
        rates = [measure(size_px, range(num_people * r, num_people * (r + 1))) for r in range(num_rounds)]
        print(f"{size_px:>5} px{max(rates):>24.0f}{f'{min(rates):.0f}-{max(rates):.0f}':>22}")


def measure(size_px: int, people: range) -> float:
    """Images per second of CPU time."""
    start = time.thread_time()
    for identity in people:
        for image in range(PHOTOS_PER_PERSON):
            render_face(0, identity, image, size_px)
    return len(people) * PHOTOS_PER_PERSON / (time.thread_time() - start)


if __name__ == "__main__":
    main()
