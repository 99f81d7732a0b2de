"""The sampler as a slow, obvious reference, written straight from SAMPLING.md."""

from dataclasses import replace
from datetime import timedelta
from hashlib import blake2b

import numpy as np

from tasks.core.duplicates import signature, signatures_agree
from tasks.core.entities import Detections
from tasks.core.sampling.rate import RateController


class SlowSampler:
    """Remembers every kept frame and counts them anew for each question.

    What the budget's minimum and exploration are at a frame is the controller's business (test_rate.py): both samplers
    have one, and this one has its own.
    """

    def __init__(self, rules):
        self.rules = rules
        self.history = []  # (strategy, batch, observation) of each kept frame
        self.earning = []  # (observation, doubtful rows) of those that were kept for the sake of single detections
        self.budget = next((s for s in rules.sampling_strategies if s.type == "expected_misses"), None)
        self.controller = RateController(self.budget, "") if self.budget else None
        self.gap = next((s for s in self.rules.sampling_strategies if s.type == "track_gap"), None)
        self.runs = {}  # camera -> its frames since the last one that was lost
        self.waiting = {}  # camera -> open frames: place in the run, frame, boxes, and what was decided

    def decide(self, x):
        """What `own` says of the frame, whether it is open, and what is settled: frame, kept, strategy, matched, p."""
        if not self.gap or not self.rules.enabled:
            return (*self.own(x), False, [])
        settled, lost = self.look_back(x)
        repeats = self.repeats(x)
        kept, strategy, matched, p, random_slice = self.own(x)
        is_open = bool(lost) and not repeats
        if is_open:
            batch = self.batch(x.captured_at)
            self.waiting[x.camera].append((len(self.runs[x.camera]) - 1, x, lost, kept, strategy, matched, p, batch))
        return kept, strategy, matched, p, random_slice, is_open, settled

    def lose_track(self, camera):
        """The open frames of a camera are settled as they were decided."""
        self.runs.pop(camera, None)
        return [self.as_decided(one) for one in self.waiting.pop(camera, [])]

    @staticmethod
    def as_decided(waiting):
        _, y, _, kept, strategy, matched, p, _ = waiting
        return y.frame, kept, strategy, matched, p

    def look_back(self, x):
        """What this frame settles, and the boxes that it has lost."""
        if x.is_stub or x.task != "object-detection":
            return self.lose_track(x.camera), []
        run = self.runs.get(x.camera)
        settled = []
        if run and None not in (run[-1].index, x.index) and x.index != run[-1].index + 1:
            settled, run = self.lose_track(x.camera), None
        if run is None:
            self.runs[x.camera], self.waiting[x.camera] = [x], []
            return settled, []
        before = run[-1]
        run.append(x)
        lost = [b for b in self.objects(before) if not self.same(b, x) and not self.passed_over(x, b)]
        still = []
        for one in self.waiting[x.camera]:
            start, _, boxes = one[:3]
            gap = run[start:-1]
            missing = [found for b in boxes if (found := self.missing(b, gap, x))]
            if missing:
                settled.append(self.ask_late(one, x, missing))
            elif len(gap) == self.gap.gap_frames or all(any(self.same(b, z) for z in run[start + 1 :]) for b in boxes):
                settled.append(self.as_decided(one))
            else:
                still.append(one)
        self.waiting[x.camera] = still
        return settled, lost

    def missing(self, lost, gap, x):
        """The class and the box, in the first frame of the gap, of an object that is seen again now; or None."""
        c, old = lost
        again = self.same(lost, x)
        if not again or any(self.same(lost, z) for z in gap):
            return None
        new = max(again, key=lambda box: iou(old, box))
        for step, z in enumerate(gap, 1):
            between = [a + (b - a) * (step / (len(gap) + 1)) for a, b in zip(old, new)]
            if self.same((c, new), z) or self.same((c, between), z):
                return None
        return c, [a + (b - a) / (len(gap) + 1) for a, b in zip(old, new)]

    def objects(self, x):
        """Class and box of what is seen of the selected classes, at or above its threshold."""
        names, found = self.gap.selected_class_names, []
        for (name, p), c, box in zip(self.rows(x), x.detections.class_id, x.detections.xyxy):
            if (names is None or name in names) and p >= self.rules.thresholds.get(name, 0.5):
                found.append((int(c), [float(v) for v in box]))
        return found

    def same(self, wanted, x):
        """The boxes of a frame that show an object of this class, in this place."""
        return [b for c, b in self.objects(x) if c == wanted[0] and iou(wanted[1], b) >= self.gap.minimum_iou]

    def passed_over(self, x, lost):
        return any(o[0] == lost[0] and iou(lost[1], o[1]) >= self.rules.duplicates.object_iou for o in self.done(x))

    def ask_late(self, one, x, missing):
        _, y, _, kept, strategy, matched, p, batch = one
        moment, name = x.captured_at, self.gap.name
        itself = (strategy, batch, y) if kept else None
        room = self.has_room(self.gap, self.batch(moment), moment, leave_out=itself)
        won = self.draw(y, name) < self.gap.probability
        if won:
            order = [s.name for s in self.rules.sampling_strategies]
            matched = tuple(sorted({*matched, name}, key=order.index))
        if won and room and not kept:
            kept, strategy = True, name
            self.history.append((name, self.batch(moment), replace(y, captured_at=moment)))
            boxes = np.array([box for _, box in missing], np.float32)
            shown = Detections(boxes, np.zeros(len(boxes)), np.array([c for c, _ in missing]), x.detections.class_names)
            self.earning.append((replace(x, detections=shown), range(len(missing))))
        return y.frame, kept, strategy, matched, 1 - (1 - p) * (1 - self.gap.probability * room)

    def own(self, x):
        exploration = next((s for s in self.rules.sampling_strategies if s.type == "random" and not s.limits), None)
        if self.budget and self.budget.exploration:
            exploration = self.budget
        if not self.rules.enabled:
            return False, None, (), 0.0, False
        if self.controller:
            self.controller.advance(x.camera, x.captured_at)
        batch, repeats, spoilt = self.batch(x.captured_at), self.repeats(x), self.used_up(x)
        tries = []  # strategy, name of its draw, q, has room
        for s in self.rules.sampling_strategies:
            if s is exploration:
                is_budget = s is self.budget
                e = self.controller.exploration if is_budget else s.traffic_percentage
                tries.append((s, s.name + "\0exploration" if is_budget else s.name, e, True))
            if repeats or (s is exploration and s.type == "random"):
                continue
            q = self.q(s, x, spoilt)
            if q is not None:
                tries.append((s, s.name, q, self.has_room(s, batch, x.captured_at)))
        won = [one for one in tries if self.draw(x, one[1]) < one[2]]
        none_wins = 1.0
        for _, _, q, room in tries:
            none_wins *= 1 - q if room else 1
        winner = next((s for s, _, _, room in won if room), None)
        if self.controller:
            expected = None if repeats else self.expected_misses(x, spoilt)
            self.controller.saw(expected, spent=any(s is self.budget and room for s, _, _, room in won))
        if winner is not None:
            self.history.append((winner.name, batch, x))
        explored = any(s is exploration and (s.type == "random" or name != s.name) for s, name, *_ in won)
        doubtful = ("close_to_threshold", "expected_misses")
        if any(room and s.type in doubtful and name == s.name for s, name, _, room in won):
            self.earning.append((x, self.doubtful_rows(x)))
        names = tuple(dict.fromkeys(s.name for s, *_ in won))
        return bool(winner), winner.name if winner else None, names, 1 - none_wins, bool(winner) and explored

    def q(self, s, x, spoilt):
        """The probability of a strategy's draw; None when it does not match."""
        if s.type == "track_gap":
            return None
        if s.type == "novelty":
            return s.probability if self.is_novel(s, x) else None
        if s.type == "expected_misses":
            expected, minimum = self.expected_misses(x, spoilt), self.controller.minimum
            if not expected or minimum is None or expected < minimum:
                return None
            return 1.0 if expected > minimum else self.controller.tie_probability or None
        if not self.wants(s, x, spoilt if s.type == "close_to_threshold" else ()):
            return None
        return s.traffic_percentage if s.type == "random" else s.probability

    def is_novel(self, s, x):
        if x.is_stub or x.embedding is None or not np.any(x.embedding):
            return False
        kept = [y for _, _, y in self.history if y.camera == x.camera and y.embedding is not None and y.embedding.any()]
        run = []
        for y in reversed(kept):
            if (y.embedder, len(y.embedding)) != (kept[-1].embedder, len(kept[-1].embedding)):
                break
            run.append(y)
        if run and (x.embedder, len(x.embedding)) != (kept[-1].embedder, len(kept[-1].embedding)):
            return True
        return all(
            round(1 - cosine(x.embedding, y.embedding), 3) > s.minimum_distance for y in run[: s.remembered_frames]
        )

    def draw(self, x, name):
        text = "\0".join([str(self.rules.seed), x.device, x.camera, x.frame, name])
        return (int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 11) / 2**53

    def rows(self, x, without=()):
        names = [x.detections.class_names[c] for c in x.detections.class_id]
        listed = [(n, round(float(p), 6)) for n, p in zip(names, x.detections.confidence)]
        return [one for row, one in enumerate(listed) if row not in without]

    def expected_misses(self, x, spoilt):
        if self.budget is None or x.is_stub or x.task not in ("object-detection", "classification"):
            return None
        seen = self.rows(x) if x.task == "classification" else self.rows(x, spoilt)
        seen = [(n, p) for n, p in seen if x.task != "classification" or n not in x.top_classes]
        return round(sum(self.weight(n, p) for n, p in seen), 6)

    def weight(self, name, p):
        if not self.rules.confidence_floor <= p < self.rules.thresholds.get(name, 0.5):
            return 0.0
        bins = [k for k, low in enumerate(self.budget.bins) if low <= p]
        return self.budget.weights[name][bins[-1]] if bins and name in self.budget.weights else 0.0

    def doubtful_rows(self, x):
        if x.is_stub or x.task != "object-detection":
            return []
        rules = [s for s in self.rules.sampling_strategies if s.type == "close_to_threshold"]
        return [
            row
            for row, (n, p) in enumerate(self.rows(x))
            if p >= self.rules.confidence_floor
            and (
                any(
                    abs(p - s.threshold) < s.epsilon and (s.selected_class_names is None or n in s.selected_class_names)
                    for s in rules
                )
                or (self.budget is not None and self.weight(n, p) > 0)
            )
        ]

    def used_up(self, x):
        """The rows of objects that have earned their samples of the camera's day."""
        if x.is_stub or x.task != "object-detection":
            return []
        done, seen = self.done(x), zip(x.detections.class_id, x.detections.xyxy)
        return [
            row
            for row, (c, box) in enumerate(seen)
            if any(o[0] == c and iou(box, o[1]) >= self.rules.duplicates.object_iou for o in done)
        ]

    def done(self, x):
        """Class and box of the objects that have earned their samples; a new day begins with nothing."""
        rule, objects, day = self.rules.duplicates, [], None
        if not rule.enabled or rule.samples_of_an_object is None:
            return []
        for y, rows in self.earning:
            if y.camera != x.camera:
                continue
            if y.captured_at.date() != day:
                objects, day = [], y.captured_at.date()
            known, earned = list(objects), set()
            for row in rows:
                c, box = y.detections.class_id[row], y.detections.xyxy[row]
                same = [
                    (iou(box, o[1]), -i) for i, o in enumerate(known) if o[0] == c and iou(box, o[1]) >= rule.object_iou
                ]
                if same:
                    earned.add(-max(same)[1])
                else:
                    objects.append([c, box, 1])
            for i in earned:
                objects[i][2] += 1
        return [o for o in objects if o[2] >= rule.samples_of_an_object] if day == x.captured_at.date() else []

    def wants(self, s, x, spoilt):
        if s.type == "random":
            return True
        if x.is_stub:
            return False
        rows = self.rows(x) if x.task == "classification" else self.rows(x, spoilt)
        selected = [(n, p) for n, p in rows if s.selected_class_names is None or n in s.selected_class_names]
        if x.task == "classification":
            top = [(n, p) for n, p in selected if n in x.top_classes]
            if s.type == "close_to_threshold":
                return any(abs(p - s.threshold) < s.epsilon for _, p in (top if s.only_top_classes else selected))
            return s.type == "classes_based" and bool(top)
        if x.task != "object-detection":
            return False
        selected = [(n, p) for n, p in selected if p >= self.rules.confidence_floor]
        if s.type == "close_to_threshold":
            near = [p for _, p in selected if abs(p - s.threshold) < s.epsilon]
            return len(near) >= s.minimum_objects_close_to_threshold
        if s.type == "detections_number_based":
            count = sum(p >= self.rules.thresholds.get(n, 0) for n, p in selected)
            return (s.more_than is None or count > s.more_than) and (s.less_than is None or count < s.less_than)
        return False

    def has_room(self, s, batch, now, leave_out=None):
        """leave_out: strategy, batch and frame of a sample that is not counted in its batch."""
        cap = self.rules.batching_strategy.max_batch_images
        others = [b for n, b, y in self.history if leave_out is None or y is not leave_out[2]]
        if cap is not None and others.count(batch) >= cap:
            return False
        pattern = {"minutely": "%Y-%m-%d %H:%M", "hourly": "%Y-%m-%d %H", "daily": "%Y-%m-%d"}
        for limit in s.limits:
            same = [
                y
                for name, _, y in self.history
                if name == s.name and y.captured_at.strftime(pattern[limit.type]) == now.strftime(pattern[limit.type])
            ]
            if len(same) >= limit.value:
                return False
        return True

    def batch(self, now):
        rule = self.rules.batching_strategy
        day = {"daily": now, "weekly": now - timedelta(days=now.weekday()), "monthly": now.replace(day=1)}
        if rule.recreation_interval == "never":
            return rule.batches_name_prefix
        return rule.batches_name_prefix + day[rule.recreation_interval].strftime("_%Y_%m_%d")

    def repeats(self, x):
        rule, recent = self.rules.duplicates, [y for _, _, y in self.history if y.camera == x.camera]
        if not rule.enabled or not recent:
            return False
        if 0 <= (x.captured_at - recent[-1].captured_at).total_seconds() < rule.cooldown_seconds:
            return True
        for y in recent[-rule.remembered_frames :]:
            if x.image_hash is not None and y.image_hash is not None:
                bits = np.unpackbits(x.image_hash ^ y.image_hash).sum()
                sights = [signature(z.detections, self.rules.confidence_floor) for z in (x, y)]
                if bits <= rule.maximum_hash_distance and signatures_agree(*sights):
                    return True
        return False


def iou(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(0, width) * max(0, height)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def cosine(a, b):
    return float(np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b))
