//! The farm's own processes, as every command that runs one starts them: `scheduler`, `worker`, `up`, and `build` without
//! a farm. The same code over the same protocol, whatever the command.

pub(crate) mod scheduler;
pub(crate) mod worker;
