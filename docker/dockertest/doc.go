// Package dockertest is a Docker Engine for tests: its API over a unix socket, above a
// model of the kernel, which refuses, rounds and kills as the real one does. Comments name
// where behaviour was measured or read. What is not modelled is refused.
//
// Time passes by Advance (or Live) only, so that a test controls the number of CFS periods.
// With Options.Files the kernel's files are below Root() as docker/cgroup reads them, and a
// quota or memory.high that is written there takes effect.
package dockertest
