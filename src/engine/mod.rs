//! The cycle and its use cases: knows only the domain and the doors.
