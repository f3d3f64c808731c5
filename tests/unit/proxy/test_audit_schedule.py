"""When the kernel is compared with the table as a whole."""

from __future__ import annotations

from datetime import timedelta

from nodeport.proxy.audit import AuditSchedule

HOUR = 3600.0


def schedule() -> AuditSchedule:
    return AuditSchedule(timedelta(hours=1), 0.0)


def test_an_audit_is_due_once_in_an_interval() -> None:
    made = schedule()
    assert not made.is_due(HOUR - 1)
    assert made.is_due(HOUR)
    made.begin(HOUR)
    made.end(HOUR + 1)
    assert not made.is_due(HOUR + 2)
    assert made.is_due(2 * HOUR)


def test_a_disturbance_is_looked_into_at_once() -> None:
    made = schedule()
    made.disturbed()
    assert made.is_due(1.0)
    made.begin(1.0)
    assert not made.is_due(1.5)


def test_one_disturbance_after_the_other_does_not_make_audits_all_there_is_time_for() -> None:
    made, now, busy = schedule(), 0.0, 0.0
    while now < 1000:
        made.disturbed()
        if made.is_due(now):
            made.begin(now)
            now += 0.5
            busy += 0.5
            made.end(now)
        now += 0.5
    assert 0.03 < busy / now <= 0.06


def test_a_disturbance_in_the_pause_is_not_forgotten() -> None:
    made = schedule()
    made.disturbed()
    made.begin(10.0)
    made.end(11.0)
    made.disturbed()
    assert not made.is_due(20.0)
    assert made.is_due(31.5)
