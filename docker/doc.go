// Package docker is the one door to the Docker Engine: list, inspect, events,
// update, one-shot stats, and the few operations that a demonstration needs.
// Exec, build, archive and volumes are out of reach from here.
//
// It speaks API 1.41 up to what the client module knows, negotiated with the
// first answer and again after every lost connection. Every call has a
// deadline, every answer a bound on its size, every failure a Kind. Nothing is
// retried here except the event stream: a refusal of the kernel comes as HTTP
// 500 as well, and asking again does not change its mind.
//
// The Engine serialises nothing: two updates of one container at the same time
// leave its record and the kernel in disagreement. One writer per container is
// the caller's duty, and so is reading the kernel's files back after every
// update, the failed ones too (an update is not atomic).
package docker
