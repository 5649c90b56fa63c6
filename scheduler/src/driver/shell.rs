//! The driver's hands: what it sets going in the world once the facts behind it are durable.

use std::sync::Arc;

use archyard_model::{BuildId, Plan};

use crate::core::{EndedBuild, PublishOrder};

/// Starts work and returns at once: it is called on the thread that commits.
///
/// Each call must be answered through the [`Handle`](super::Handle), and may come twice for one build: after a
/// restart, or when no answer came for long. Doing the work twice must give the same outcome.
pub trait Shell: Send + 'static {
    /// Resolve the plan's bases; answer with `lock_resolved` or `lock_failed`.
    fn resolve(&mut self, build: BuildId, plan: Arc<Plan>);
    /// Verify every manifest, then `index_prepared`; push the index by digest; move the tags in order, with
    /// `tag_moved` after each; `publish_done`. Or `publish_failed` at any point. A refusal on the way means: stop, quietly.
    fn publish(&mut self, order: PublishOrder);
    /// Keep the record where ended builds are kept, drop the build's credentials, then `archived`.
    fn archive(&mut self, ended: EndedBuild);
}
