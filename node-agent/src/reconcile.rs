//! The loop that keeps the node's links as files, and the cluster's policies, describe them.
//!
//! # From a policy to the kernel
//!
//! | step | place |
//! |---|---|
//! | the policies of this node, merged with files | `cluster/policies`: `follow`, `merge`; `wanted` |
//! | one look: which policy is to blame if all together fail | `keeper`: `look`; `blame`: `bring_about` |
//! | which group of links is to blame; what is kept for the next boot | `repair`; `groups`, `disk` |
//! | the plan, which is pure | `node/plan` |
//! | the steps, each in the journal before the kernel gets it | `node/apply`: `carry_out`, `work`, `kernel` |
//! | what became of it | `standing`; `cluster/policies/report` |
//!
//! # Undo
//!
//! | when | undone | where | tried again |
//! |---|---|---|---|
//! | a step fails, or the node is cut off | the steps before it | `node/apply/undo` | see below |
//! | the process is killed, or a look lasts too long | what the journal has | `node/recovery` | at the next look |
//! | a group of links fails | its steps | `repair`: `one_by_one` | after 5 s |
//! | a policy fails that was not in force | all its groups; its last version stays in force | `blame` | when it changes, and every minute |
//! | a change cut the node off | as above | `node/state/cut_off` | when a user asks for it |

mod blame;
mod disk;
mod fights;
mod files;
mod groups;
mod keeper;
mod left;
mod marks;
mod ports;
mod refusals;
mod repair;
mod standing;
mod supervisor;
mod wanted;
mod watch;

pub(crate) use ports::Told as PortsTold;
pub(crate) use standing::Standing;
pub(crate) use supervisor::{Job, is_expendable, keep, overdue};
