"""A follower's progress: its states, its window, and what stale answers must not do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.messages import Configuration
from consensus.progress import Inflights, Progress, ProgressState
from consensus.reconfiguration import Reconfiguration
from consensus.tracker import Tracker


def window(messages_max: int = 4, bytes_max: int = 100) -> Inflights:
    return Inflights(messages_max=messages_max, bytes_max=bytes_max)


def progress(match: int = 3, next_index: int = 8) -> Progress:
    return Progress(match=match, next_index=next_index, is_learner=False, inflights=window())


class TestWindow:
    @given(st.lists(st.tuples(st.booleans(), st.integers(0, 60)), max_size=40))
    def test_it_is_the_list_of_what_is_not_acknowledged(self, steps: list[tuple[bool, int]]) -> None:
        inflights, twin, index = window(), list[tuple[int, int]](), 0
        for adds, number in steps:
            assert inflights.full == (len(twin) >= 4 or sum(size for _, size in twin) >= 100)
            if not adds:
                inflights.free_up_to(number)
                twin = [item for item in twin if item[0] > number]
            elif not inflights.full:
                index += 1
                inflights.add(index, number)
                twin.append((index, number))
            assert len(inflights) == len(twin)

    def test_a_full_window_takes_no_more(self) -> None:
        inflights = window(messages_max=1)
        inflights.add(5, 1)
        with pytest.raises(AssertionError, match="past a full window"):
            inflights.add(6, 1)
        inflights.clear()
        inflights.add(6, 1)

    def test_a_message_larger_than_the_window_goes_alone(self) -> None:
        inflights = window(bytes_max=10)
        inflights.add(1, 1000)
        assert inflights.full


class TestProbe:
    def test_a_probe_waits_for_its_answer(self) -> None:
        peer = progress()
        paused = []
        for count in (0, 2):
            # An empty append may be repeated.
            peer.note_sent(entries=count, size_bytes=count, commit=3)
            paused.append(peer.is_paused)
        assert paused == [False, True]
        assert peer.next == 8, "what was probed may have to be sent again"

    def test_a_rejection_moves_it_back_to_the_hint(self) -> None:
        peer = progress(match=0, next_index=8)
        peer.paused = True
        assert peer.reject(7, hint=4)
        assert (peer.next, peer.paused) == (5, False)

    def test_only_the_answer_to_the_last_probe_counts(self) -> None:
        peer = progress(match=0, next_index=8)
        assert not peer.reject(5, hint=2)
        assert peer.next == 8

    @given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 30))
    def test_next_stays_above_match_and_never_rises_on_a_rejection(self, match: int, ahead: int, hint: int) -> None:
        peer = progress(match=match, next_index=match + 1 + ahead)
        before = peer.next
        peer.reject(before - 1, hint=hint)
        assert match < peer.next <= max(before, match + 1)


class TestReplicate:
    def test_it_sends_ahead_until_the_window_is_full(self) -> None:
        peer = progress()
        peer.become_replicate()
        assert peer.next == 4
        for _ in range(4):
            assert not peer.is_paused
            peer.note_sent(entries=1, size_bytes=10, commit=3)
        assert peer.next == 8
        assert peer.is_paused

    def test_a_rejection_below_what_is_known_is_stale(self) -> None:
        peer = progress()
        peer.become_replicate()
        assert not peer.reject(3, hint=0)
        assert peer.reject(5, hint=0)
        assert peer.next == 4

    def test_acknowledgements_only_move_forward(self) -> None:
        peer = progress()
        peer.paused = True
        assert not peer.acknowledge(3)
        assert peer.paused
        assert peer.acknowledge(9)
        assert (peer.match, peer.next, peer.paused) == (9, 10, False)
        assert not peer.acknowledge(5)


class TestSnapshot:
    def test_nothing_is_sent_meanwhile(self) -> None:
        peer = progress()
        peer.become_snapshot(20)
        assert (peer.is_paused, peer.next, peer.pending_snapshot) == (True, 21, 20)
        with pytest.raises(AssertionError, match="snapshot is under way"):
            peer.note_sent(entries=1, size_bytes=1, commit=1)

    def test_probing_goes_on_behind_it(self) -> None:
        peer = progress()
        peer.become_snapshot(20)
        peer.become_probe()
        assert (peer.state, peer.next, peer.pending_snapshot) == (ProgressState.PROBE, 21, 0)


class TestCommit:
    def test_a_commit_index_is_worth_sending_once(self) -> None:
        peer = progress()
        peer.become_replicate()
        peer.note_sent(entries=3, size_bytes=1, commit=3)
        assert peer.lacks_commit(5)
        peer.note_commit_sent(5)
        assert not peer.lacks_commit(5)
        assert peer.lacks_commit(6)

    def test_a_commit_index_beyond_what_was_sent_is_no_use(self) -> None:
        peer = progress()
        peer.become_replicate()
        peer.note_commit_sent(3)
        assert not peer.lacks_commit(9)

    def test_what_was_lost_on_the_way_is_sent_again(self) -> None:
        peer = progress()
        peer.become_replicate()
        peer.note_sent(entries=3, size_bytes=1, commit=6)
        peer.reject(6, hint=3)
        peer.become_probe()
        assert peer.next == 4
        peer.become_replicate()
        peer.note_sent(entries=3, size_bytes=1, commit=3)
        assert peer.lacks_commit(6)


class TestTracker:
    def tracker(self, configuration: Configuration) -> Tracker:
        tracker = Tracker(window)
        tracker.switch(Reconfiguration(configuration), last_index=9)
        return tracker

    def test_who_stays_keeps_its_progress_and_who_was_removed_and_added_does_not(self) -> None:
        tracker = self.tracker(Configuration(voters=(1, 2), learners=(3,)))
        for peer in tracker.progress.values():
            peer.acknowledge(5)
        tracker.switch(Reconfiguration(Configuration(voters=(1, 2, 3)), forgotten=frozenset({2})), last_index=9)
        assert {node: peer.match for node, peer in tracker.progress.items()} == {1: 5, 2: 0, 3: 5}
        assert not tracker.progress[3].is_learner

    def test_the_first_answer_of_a_voter_counts(self) -> None:
        tracker = self.tracker(Configuration(voters=(1,)))
        tracker.record_vote(1, granted=False)
        tracker.record_vote(1, granted=True)
        assert tracker.votes == {1: False}

    def test_a_learner_makes_no_quorum_active(self) -> None:
        tracker = self.tracker(Configuration(voters=(1, 2), learners=(3, 4)))
        for node, peer in tracker.progress.items():
            peer.recent_active = node != 2
        assert not tracker.quorum_is_active()
        tracker.progress[2].recent_active = True
        assert tracker.quorum_is_active()
