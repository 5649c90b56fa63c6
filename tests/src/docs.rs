//! The documentation as something that can be followed: its pages, and the hosts that its commands are run on.

pub mod hosts;
pub mod pages;
