//! What is left of a call when its response has begun: it ends by the deadline, and counts for or
//! against the budget of further attempts by how it ends.

use std::sync::Arc;
use std::task::{Context, Poll};

use fleetward_client::{Deadline, DeadlineTimer};
use fleetward_core::InstanceId;
use tonic::{Code, Status};

use super::head::Head;
use super::plan::Plan;
use crate::deadline;

/// Ends the response's body with DEADLINE_EXCEEDED when the deadline passes, and tells the budget how
/// the call went.
pub(crate) struct Tail {
    timer: Option<DeadlineTimer>,
    plan: Arc<Plan>,
    /// Whether the budget has yet to hear of a success.
    counts: bool,
}

impl Tail {
    pub(super) fn new(head: Head, deadline: Option<Deadline>, plan: Arc<Plan>) -> Self {
        let mut tail = Self { timer: deadline.map(DeadlineTimer::new), plan, counts: true };
        match head {
            Head::Begun => {}
            Head::Succeeded => tail.ended(Some(Code::Ok)),
            // It has been counted already, attempt by attempt.
            Head::Failed(_) | Head::Foreign(_) => tail.counts = false,
        }
        tail
    }

    /// The trailers, if there were any, had this code.
    pub(crate) fn ended(&mut self, code: Option<Code>) {
        let counts = std::mem::take(&mut self.counts);
        if let Some(budget) = &self.plan.budget
            && counts
            && code == Some(Code::Ok)
        {
            budget.succeeded();
        }
    }

    /// Whether the deadline has passed.
    pub(crate) fn is_late(&self) -> bool {
        self.timer.as_ref().is_some_and(|timer| timer.deadline().has_passed())
    }

    /// Ready once the deadline has passed.
    pub(crate) fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.timer.as_mut().map_or(Poll::Pending, |timer| timer.poll_passed(cx))
    }

    /// Of a body that the deadline has ended.
    pub(crate) fn exceeded(&self, instance: Option<&InstanceId>) -> Option<Status> {
        let deadline = self.timer.as_ref()?.deadline();
        let service = &self.plan.service;
        Some(match instance {
            Some(instance) => {
                let why = format!("instance {instance} had not finished its response");
                deadline::exceeded(deadline, service, why)
            }
            None => deadline::exceeded(deadline, service, "the response had not ended"),
        })
    }
}
