"""Linearizable reads: read indexes by rounds of heartbeats, and leases (thesis 6.4)."""

import random

import pytest

from consensus.config import RaftConfig
from consensus.errors import ProposalDropped
from consensus.memory import MemoryLog
from consensus.messages import Message, MessageKind, ReadState, Role
from consensus.raft import Raft
from consensus.rounds import Rounds, WaitingRead
from tests.consensus.group import ELECTION_S, HEARTBEAT_S, Group, add_voter, cut, only, remove, role_of


def group_of(voters: int, **settings: object) -> tuple[Group, list[ReadState]]:
    group = Group(voters, **settings)  # type: ignore[arg-type]
    answers: list[ReadState] = []
    group.on_read = answers.append
    group.now += ELECTION_S
    group.elect(1)
    return group, answers


class TestRounds:
    def test_a_round_is_confirmed_when_a_majority_of_voters_has_answered_it_or_a_later_one(self) -> None:
        rounds = Rounds()
        numbers = [rounds.begin(now) for now in (10.0, 11.0, 12.0)]
        assert numbers == [1, 2, 3]
        rounds.waiting.extend([WaitingRead(1, 5, 1, 7), WaitingRead(2, 6, 1, 8), WaitingRead(3, 6, 1, 9)])
        voters = (1, 2, 3, 4, 5)
        rounds.answered(2, 3)
        assert rounds.confirm(own=1, incoming=voters, outgoing=()) == []
        rounds.answered(3, 2)
        done = rounds.confirm(own=1, incoming=voters, outgoing=())
        assert [read.request for read in done] == [7, 8]
        assert (rounds.confirmed, rounds.confirmed_s) == (2, 11.0)

    def test_an_answer_that_comes_late_takes_nothing_back(self) -> None:
        rounds = Rounds()
        for now in (1.0, 2.0):
            rounds.begin(now)
        rounds.answered(2, 2)
        rounds.answered(2, 1)
        rounds.confirm(own=1, incoming=(1, 2, 3), outgoing=())
        assert rounds.confirmed == 2

    def test_an_answer_to_a_round_that_was_never_sent_confirms_no_later_one(self) -> None:
        rounds = Rounds()
        rounds.begin(1.0)
        rounds.answered(2, 9)
        rounds.confirm(own=1, incoming=(1, 2, 3), outgoing=())
        rounds.begin(2.0)
        rounds.waiting.append(WaitingRead(2, 1, 1, 1))
        assert rounds.confirm(own=1, incoming=(1, 2, 3), outgoing=()) == []

    def test_of_a_joint_configuration_both_halves_must_answer(self) -> None:
        rounds = Rounds()
        rounds.begin(1.0)
        rounds.answered(2, 1)
        rounds.confirm(own=1, incoming=(1, 2, 3), outgoing=(1, 4, 5))
        assert rounds.confirmed == 0
        rounds.answered(4, 1)
        rounds.confirm(own=1, incoming=(1, 2, 3), outgoing=(1, 4, 5))
        assert rounds.confirmed == 1

    def test_a_leader_that_is_no_voter_does_not_count(self) -> None:
        rounds = Rounds()
        rounds.begin(1.0)
        rounds.answered(2, 1)
        rounds.confirm(own=1, incoming=(2, 3), outgoing=())
        assert rounds.confirmed == 0


class TestThesis64ReadIndexes:
    def test_a_read_waits_for_a_round_that_begins_after_it_was_asked(self) -> None:
        group, answers = group_of(3)
        group.pass_time(HEARTBEAT_S, 1)
        group.work(1)
        group.settle(2, 3)  # they have answered a round of before, and nobody has read the answers
        group[1].raft.read(1, group.now)
        early = [message for message in group.in_flight if message.kind is MessageKind.HEARTBEAT_RESPONSE]
        group.in_flight = []
        for message in early:
            group.deliver(message)
        group.settle(1)
        assert answers == []
        group.pass_time(HEARTBEAT_S, 1)
        group.settle()
        assert answers == [ReadState(1, group[1].raft.commit_index)]

    def test_a_leader_that_was_deposed_confirms_no_read(self) -> None:
        group, answers = group_of(3)
        group.now += ELECTION_S
        group[2].raft.campaign(group.now)
        group.settle(2, 3)
        group.propose(2, b"newer")
        group.settle(2, 3)
        group[1].raft.read(1, group.now)
        group.settle()
        assert answers == []

    def test_a_new_leader_answers_only_when_it_has_committed_an_entry_of_its_term(self) -> None:
        group, answers = group_of(3)
        group.propose(1, b"a")
        group.settle(drop=cut(3))
        committed = group[1].raft.commit_index
        group[2].raft.campaign(group.now)
        group.settle(drop=only(MessageKind.VOTE, MessageKind.VOTE_RESPONSE))
        group[2].raft.read(4, group.now)
        group.settle(drop=only(MessageKind.HEARTBEAT, MessageKind.HEARTBEAT_RESPONSE))
        assert answers == []
        group.pass_time(HEARTBEAT_S, 2)
        group.settle()
        ((request, index),) = [(answer.request, answer.index) for answer in answers]
        assert request == 4
        assert index > committed

    def test_a_follower_asks_its_leader(self) -> None:
        group, answers = group_of(3)
        group[3].raft.read(6, group.now)
        group.settle()
        assert answers == [ReadState(6, group[1].raft.commit_index)]

    def test_a_learner_may_ask_and_does_not_count(self) -> None:
        group, answers = group_of(1)
        group.add(2)
        group.change(1, add_voter(2))
        group.add(3)
        group.in_flight = []
        group[2].raft.read(1, group.now)
        group.settle(drop=lambda message: message.kind is MessageKind.HEARTBEAT_RESPONSE)
        assert answers == []

    def test_a_single_voter_confirms_its_reads_itself(self) -> None:
        group, answers = group_of(1)
        group[1].raft.read(1, group.now)
        group.settle()
        assert answers == [ReadState(1, group[1].raft.commit_index)]

    def test_who_knows_no_leader_is_told(self) -> None:
        group = Group(3)
        with pytest.raises(ProposalDropped, match="no leader is known"):
            group[1].raft.read(1, group.now)


class TestThesis641Leases:
    def test_within_its_lease_a_leader_asks_nobody(self) -> None:
        group, answers = group_of(3, check_quorum=True, lease_reads=True)
        group.pass_time(HEARTBEAT_S, 1)
        group.settle()
        group[1].raft.read(1, group.now)
        group.settle(drop=lambda message: True)
        assert [answer.request for answer in answers] == [1]

    def test_a_lease_ends_before_any_follower_may_vote_whatever_the_clocks_do(self) -> None:
        config = RaftConfig(id=1, election_timeout_s=1.0, lease_reads=True, clock_error_max=0.1)
        slowest, fastest = 1 - 0.1, 1 + 0.1
        assert config.lease_s / slowest <= config.election_timeout_s / fastest + 1e-9
        group, answers = group_of(3, check_quorum=True, lease_reads=True, clock_error_max=0.1)
        group.pass_time(HEARTBEAT_S, 1)
        group.settle()
        group.now += group[1].config.lease_s
        group[1].raft.read(1, group.now)
        group.settle(drop=lambda message: True)
        assert answers == []

    def test_a_leader_that_asked_another_to_take_over_has_no_lease_any_longer(self) -> None:
        group, answers = group_of(3, check_quorum=True, lease_reads=True)
        group.pass_time(HEARTBEAT_S, 1)
        group.settle()
        group[1].raft.transfer_leadership(2)
        group.settle(drop=lambda message: message.kind is MessageKind.TIMEOUT_NOW)
        group[1].raft.read(1, group.now)
        group.settle(drop=lambda message: True)
        assert answers == []

    def test_a_node_that_has_just_started_again_grants_no_vote_within_the_lease(self) -> None:
        group, _ = group_of(3, check_quorum=True, lease_reads=True)
        group.pass_time(HEARTBEAT_S, 1)
        group.settle()
        group.crash(3)
        term = group[1].raft.term
        group.deliver(
            Message(
                MessageKind.VOTE,
                to=3,
                sender=2,
                term=term + 1,
                index=group[3].raft.last_index,
                log_term=term,
            )
        )
        group.work(3)
        assert group[3].raft.term == term

    def test_with_storage_threads_also_a_node_whose_disk_has_no_term_may_have_promised(self) -> None:
        """It answers heartbeats before their term is on its disk."""
        config = RaftConfig(id=3, lease_reads=True, async_storage=True)
        joiner = Raft(config, MemoryLog(), now=5.0, rng=random.Random(1))
        asked = Message(MessageKind.VOTE, to=3, sender=2, term=4, index=7, log_term=3)
        joiner.receive(asked, 5.9)
        assert joiner.term == 0
        joiner.receive(asked, 6.0)
        assert joiner.term == 4

    @pytest.mark.parametrize("pre_vote", [False, True])
    def test_a_node_does_not_stand_against_a_leader_that_may_rely_on_it(self, pre_vote: bool) -> None:
        group, answers = group_of(3, check_quorum=True, lease_reads=True, pre_vote=pre_vote)
        group.pass_time(HEARTBEAT_S, 1)
        group.settle()
        term = group[1].raft.term
        group.now += ELECTION_S / 2
        for node in (2, 3):
            group[node].raft.campaign(group.now)
        group.settle(drop=cut(1))
        assert [role_of(group[node].raft) for node in (2, 3)] == [Role.FOLLOWER] * 2
        group.now += ELECTION_S / 2
        group[2].raft.campaign(group.now)
        group.settle(drop=cut(1))
        assert role_of(group[2].raft) is Role.LEADER
        assert group[2].raft.term == term + 1
        group[1].raft.read(1, group.now)
        group.settle(drop=cut(1))
        assert answers == []

    def test_nor_does_it_vote_against_it_in_a_term_that_it_is_in_already(self) -> None:
        """It came to that term by the refusal of its own question, and not by the candidate's."""
        group, answers = group_of(3, check_quorum=True, pre_vote=True, lease_reads=True)
        group.pass_time(HEARTBEAT_S, 1)
        group.settle()
        leader, voter, candidate = (group[node].raft for node in (1, 2, 3))
        for _ in range(12):  # it is cut off for a while, and too short to step down
            group.pass_time(HEARTBEAT_S, 1)
            group.settle(1)
            group.take()
        voter.campaign(group.now)
        group.work(2)
        slow_question = group.take(lambda message: message.to == 3)
        candidate.campaign(group.now)
        for node in (3, 2, 3):
            group.work(node)
            group.deliver_all(group.take(lambda message: message.kind is not MessageKind.VOTE and message.to != 1))
        group.work(3)
        assert role_of(candidate) is Role.CANDIDATE
        slow_vote = group.take(lambda message: message.kind is MessageKind.VOTE and message.to == 2)
        group.take()
        group.pass_time(HEARTBEAT_S, 1)  # it is heard again, and answers on its lease
        group.settle(1, 2, drop=cut(3))
        group.take()
        group.deliver_all(slow_question)
        group.settle(2, 3, drop=cut(1))
        assert voter.term == candidate.term > leader.term
        group.deliver_all(slow_vote)
        group.settle(2, 3, drop=cut(1))
        leader.read(1, group.now)
        group.work(1)
        assert [answer.request for answer in answers] == [1]
        assert role_of(candidate) is Role.CANDIDATE

    def test_nor_when_it_is_the_only_voter_that_is_left(self) -> None:
        group, answers = group_of(2, check_quorum=True, lease_reads=True, step_down_on_removal=False)
        group.pass_time(HEARTBEAT_S, 1)
        group.settle()
        group.change(1, remove(1))
        group.settle()
        assert group[2].raft.configuration.voters == (2,)
        group[2].raft.campaign(group.now)
        group.settle(drop=cut(1))
        assert role_of(group[2].raft) is Role.FOLLOWER
        group[1].raft.read(1, group.now)
        group.settle(drop=cut(1))
        assert [answer.request for answer in answers] == [1]
        group.now += ELECTION_S
        group[2].raft.campaign(group.now)
        group.settle(drop=cut(1))
        assert role_of(group[2].raft) is Role.LEADER

    def test_bad_settings_are_refused(self) -> None:
        with pytest.raises(ValueError, match=r"clock_error_max is 1\.0"):
            RaftConfig(id=1, clock_error_max=1.0)
