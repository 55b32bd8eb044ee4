// Package dockertest is a Docker Engine for tests: its API over a unix socket,
// and below it a model of the kernel, which refuses, rounds and kills as the real
// ones do. Where behaviour was measured or read, the comment says where; what is
// not modelled is refused, never guessed.
//
// Time stands still until Advance (or Live) moves it, so that a test decides how
// many CFS periods pass. With Options.Files the kernel's files lie below Root()
// as docker/cgroup reads them, and a quota or memory.high that is written there
// is obeyed.
package dockertest
