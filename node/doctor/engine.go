package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/effiscale/effiscale/docker"
	"github.com/effiscale/effiscale/docker/cgroup"
	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/config"
)

// addressOf is the Engine of the running daemon ("": none runs), else the one that a daemon with
// this configuration would have. other says that one started from this shell would use another
// Engine; "": the same.
func addressOf(cfg config.Config, env []string, running string) (a docker.Address, other string, err error) {
	a, err = docker.Find(cfg.Docker.Host, env)
	if running == "" {
		return a, "", err
	}
	host, from, _ := strings.Cut(running, " ")
	if err == nil && a.Host == host {
		a.From = "of the running daemon, from " + strings.Trim(from, "()")
		return a, "", nil
	}
	if err == nil {
		other = fmt.Sprintf("the running daemon uses %s, one started from this shell would use %s", running, a)
	}
	return docker.Address{Host: host, From: "of the running daemon, from " + strings.Trim(from, "()")}, other, nil
}

// checkEngine asks the Engine for its version and its containers, and makes each request that
// the daemon needs. address is the Engine's as the running daemon reports it; "": none runs.
func checkEngine(
	ctx context.Context, cfg config.Config, env []string, address string,
) ([]api.Check, knowledge.Host, []knowledge.Container) {
	remedy := "start it (`systemctl start docker`), or set its address in docker.host"
	a, other, err := addressOf(cfg, env, address)
	fail := func(err error, remedy string) ([]api.Check, knowledge.Host, []knowledge.Container) {
		return []api.Check{verdict("engine", "error", err, "", remedy)}, knowledge.Host{}, nil
	}
	if err != nil {
		return fail(err, "correct docker.host, DOCKER_HOST or the Docker context")
	}
	c, err := docker.Open(docker.Options{Host: a.Host, CertDir: a.CertDir, Log: zerolog.Nop()})
	if err != nil {
		return fail(err, "correct docker.host")
	}
	defer func() { _ = c.Close() }()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	h, err := c.Host(ctx)
	if kind, ok := docker.KindOf(err); ok && kind == docker.KindPermission {
		remedy = "run as root, or as a member of the group that owns the socket"
	}
	if err != nil {
		return fail(fmt.Errorf("%s: %w", a, err), remedy)
	}
	list, err := c.List(ctx)
	if kind, ok := docker.KindOf(err); err != nil && !(ok && kind == docker.KindDenied) {
		return fail(fmt.Errorf("%s: %w", a, err), remedy)
	}
	fine := fmt.Sprintf("%s, API %s, %d containers, %d cores, %s, at %s",
		h.EngineVersion, h.APIVersion, len(list), h.CPUs, h.Memory, a)
	checks := []api.Check{verdict("engine", "error", nil, fine, "")}
	if other != "" {
		checks = append(checks, api.Check{Name: "engine address", Severity: "warning", Detail: other,
			Remedy: "set docker.host, or unset DOCKER_HOST and DOCKER_CONTEXT"})
	}
	running, starts := inspect(ctx, c, h.CPUs, list)
	checks = append(checks, starts...)
	return append(checks, checkRequests(c)...), h, running
}

const (
	inspectedMost = 500 // containers that are inspected
	triedMost     = 16  // running ones whose quota file is looked for
	namedMost     = 10  // those that cannot be started again
)

// inspect inspects containers and reads the statistics of a running one. It returns running
// containers, and names those that the Engine would refuse to start again with the limits that
// it has on record.
func inspect(
	ctx context.Context, c *docker.Client, cpus int, list []knowledge.Container,
) (running []knowledge.Container, starts []api.Check) {
	for i := range list {
		tried := list[i].State == knowledge.StateRunning && len(running) < triedMost
		if i >= inspectedMost && !tried {
			continue
		}
		k, err := c.Inspect(ctx, list[i].ID)
		if err != nil { // it was removed meanwhile, or inspects are refused, which is another check
			k = list[i] // without limits
		}
		if tried && len(running) == 0 {
			var s knowledge.Sample
			_ = c.Stats(ctx, k.ID, &s) // a refusal is noted
		}
		if tried {
			running = append(running, k)
		}
		if why := k.Limits.RefusedAtStart(cpus); why != "" && len(starts) < namedMost {
			starts = append(starts, api.Check{Name: "start", Severity: "warning",
				Detail: k.Name + " cannot be started again: " + why,
				Remedy: "raise the limit with `docker update`; of a managed container the daemon does it"})
		}
	}
	return running, starts
}

// checkRequests lists what the Engine refused.
func checkRequests(c *docker.Client) (checks []api.Check) {
	for _, r := range c.Refusals() {
		checks = append(checks, api.Check{Name: "engine requests", Severity: "warning", Detail: r,
			Remedy: docker.Remedy(r)})
	}
	if len(checks) == 0 {
		checks = append(checks, verdict("engine requests", "warning", nil, "allowed", ""))
	}
	return checks
}

// checkWrite opens the quota file of a running container.
func checkWrite(k *cgroup.Host, running []knowledge.Container, cfg config.Config) api.Check {
	const name = "quota files"
	if cfg.Docker.Actuator == knowledge.ActuatorEngine {
		return verdict(name, "warning", nil, `not needed: docker.actuator = "engine"`, "")
	}
	var found error
	for i := range running {
		c, err := k.Attach(running[i])
		if err != nil {
			found = err
			continue
		}
		var refused error
		if !c.Writable() {
			refused = fmt.Errorf("cannot be written below %s", c.Path())
		}
		_ = c.Close()
		return verdict(name, "warning", refused, "can be written",
			`run as root; or set docker.actuator = "engine", which is slower and has all functions`)
	}
	if found != nil {
		found = fmt.Errorf("of %d running containers that were tried none can be found: %w", len(running), found)
	}
	return verdict(name, "warning", found, "not checked: no container runs",
		"mount the host's /sys/fs/cgroup and use the host's PID namespace where the daemon runs; until then limits come "+
			"from the Engine's record and changes go through the Engine")
}
