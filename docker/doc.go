// Package docker is the adapter of the Docker Engine's API: list, inspect, events,
// one-shot statistics, updates of limits, and the lifecycle of containers, images and
// networks. It does not exec, build, or touch volumes.
//
// It speaks API 1.41 up to what the client module knows, negotiated with the first
// answer and again after every lost connection. Every call has a deadline, every
// answer a limit on its size, every error a Kind. Only the event stream is retried: a
// refusal of the kernel is HTTP 500 as well, and would be repeated.
//
// The Engine does not serialise updates: two of one container at the same time leave
// its record and the kernel in disagreement. The caller has one writer per container,
// and reads the kernel's files back after every update, also after a failed one (an
// update is not atomic).
package docker
