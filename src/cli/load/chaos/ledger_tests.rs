//! The judge is judged: each kind of violation is found, and what is right is not.

use super::*;
