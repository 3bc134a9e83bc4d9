"""The gradient flow in s: integrators, step rules, schedules, operators, and the steppers on host and device."""
