//! Devices that misbehave, and striping.
