package docker

import (
	"context"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/system"

	"github.com/effiscale/effiscale/knowledge"
)

var (
	errNotHost      = errors.New("the answer has no CPUs or no memory of the host")
	errNotContainer = errors.New("the answer describes another container, or none")
	errNotImage     = errors.New("the answer describes no image")
	errNotNetwork   = errors.New("the answer names no network")
)

// Host reads what the Engine reports of the host.
func (c *Client) Host(ctx context.Context) (knowledge.Host, error) {
	var h knowledge.Host
	err := c.do(ctx, opInfo, "", c.o.ListTimeout, func(ctx context.Context, s *session) (err error) {
		if h, err = s.askHost(ctx); err == nil {
			c.access.checkUpdates(ctx, s)
		}
		return err
	})
	return h, err
}

func (s *session) askHost(ctx context.Context) (knowledge.Host, error) {
	info, err := s.api.Info(ctx)
	e := s.denied(ctx, opInfo, err)
	if err != nil && e == nil {
		return knowledge.Host{}, err
	}
	v := s.askVersion(ctx)
	h, other := hostOf(info), v.foreign()
	switch {
	case e != nil:
		h = localHost()
		h.EngineVersion = clean(v.Version)
	case info.NCPU < 1 || info.MemTotal < 1:
		return knowledge.Host{}, errNotHost
	}
	s.c.access.note(opInfo.name, e)
	if other != "" {
		h.EngineVersion = other
	}
	h.APIVersion = s.api.ClientVersion()
	s.mu.Lock()
	s.host, s.engine = h, other
	s.mu.Unlock()
	return h, nil
}

// knownHost is the host as it was read last in this session.
func (s *session) knownHost(ctx context.Context) (knowledge.Host, error) {
	s.mu.Lock()
	h := s.host
	s.mu.Unlock()
	if h.CPUs > 0 {
		return h, nil
	}
	return s.askHost(ctx)
}

func hostOf(i system.Info) knowledge.Host {
	h := knowledge.Host{
		Name:          i.Name,
		CPUs:          min(i.NCPU, int(knowledge.MaxCPU/knowledge.OneCPU)),
		Memory:        min(knowledge.Bytes(i.MemTotal), knowledge.MaxBytes),
		EngineVersion: i.ServerVersion,
		CgroupVersion: 1,
		CgroupDriver:  i.CgroupDriver,
		SwapLimit:     i.SwapLimit,
	}
	if i.CgroupVersion == "2" {
		h.CgroupVersion = 2
	}
	return h
}

// List is every container, also the stopped ones, in one call, without the fields of an
// inspect (Inspected is false).
func (c *Client) List(ctx context.Context) ([]knowledge.Container, error) {
	var all []knowledge.Container
	err := c.do(ctx, opList, "", c.o.ListTimeout, func(ctx context.Context, s *session) error {
		summaries, err := s.api.ContainerList(ctx, container.ListOptions{All: true})
		if err != nil {
			return err
		}
		all = make([]knowledge.Container, 0, len(summaries))
		for i := range summaries {
			if sum := &summaries[i]; knowledge.FullID(sum.ID) {
				all = append(all, summaryOf(sum))
			}
		}
		return nil
	})
	return all, err
}

func summaryOf(s *container.Summary) knowledge.Container {
	name := nameOf(s.Names)
	return knowledge.Container{
		ID:      knowledge.ContainerID(s.ID),
		Name:    name,
		Labels:  s.Labels,
		Service: serviceOf(name, s.Labels),
		Image:   knowledge.ImageKeyOf(s.ImageID, s.Command), ImageName: s.Image,
		State:  knowledge.ParseRunState(s.State),
		Health: healthOf(s.Status), ExitCode: exitCodeOf(s.Status),
		Created: time.Unix(s.Created, 0),
	}
}

// nameOf picks the container's own name; links of other containers add names such as
// "/web/db".
func nameOf(names []string) string {
	for _, n := range names {
		if n = strings.TrimPrefix(n, "/"); !strings.Contains(n, "/") {
			return n
		}
	}
	return ""
}

// exitCodeOf reads "Exited (1) 3 minutes ago" and "Restarting (1) 2 seconds ago".
func exitCodeOf(status string) int {
	for _, word := range []string{"Exited (", "Restarting ("} {
		if rest, ok := strings.CutPrefix(status, word); ok {
			digits, _, _ := strings.Cut(rest, ")")
			code, _ := strconv.Atoi(digits)
			return code
		}
	}
	return 0
}

// healthOf reads "Up 3 minutes (healthy)": a listing has no other field for it.
func healthOf(status string) knowledge.Health {
	_, word, ok := strings.Cut(status, "(")
	if !ok || !strings.HasPrefix(status, "Up ") {
		return knowledge.HealthNone
	}
	word, ok = strings.CutSuffix(word, ")")
	if !ok {
		return knowledge.HealthNone
	}
	return knowledge.ParseHealth(strings.TrimPrefix(word, "health: "))
}

// Inspect is one container with all fields.
func (c *Client) Inspect(ctx context.Context, id knowledge.ContainerID) (knowledge.Container, error) {
	var k knowledge.Container
	if err := checkID(opInspect, id); err != nil {
		return k, err
	}
	err := c.do(ctx, opInspect, string(id), c.o.InspectTimeout, func(ctx context.Context, s *session) (err error) {
		k, err = s.inspect(ctx, id)
		return err
	})
	return k, err
}

func (s *session) inspect(ctx context.Context, id knowledge.ContainerID) (knowledge.Container, error) {
	j, err := s.api.ContainerInspect(ctx, string(id))
	if err != nil {
		return knowledge.Container{}, err
	}
	if j.ContainerJSONBase == nil || j.State == nil || j.HostConfig == nil || !knowledge.FullID(j.ID) ||
		!strings.HasPrefix(j.ID, string(id)) {
		return knowledge.Container{}, errNotContainer
	}
	return inspectedOf(&j), nil
}

func inspectedOf(j *container.InspectResponse) knowledge.Container {
	k := knowledge.Container{
		ID:           knowledge.ContainerID(j.ID),
		Name:         strings.TrimPrefix(j.Name, "/"),
		State:        knowledge.ParseRunState(j.State.Status),
		Created:      parseTime(j.Created),
		Restarts:     max(j.RestartCount, 0),
		ExitCode:     j.State.ExitCode,
		Inspected:    true,
		PID:          max(j.State.Pid, 0),
		StartedAt:    parseTime(j.State.StartedAt),
		CgroupParent: j.HostConfig.CgroupParent,
		Limits:       limitsOf(&j.HostConfig.Resources),
		Image:        knowledge.ImageKeyOf(j.Image, commandOf(j.Path, j.Args)),
	}
	if j.Config != nil {
		k.Labels, k.ImageName = j.Config.Labels, j.Config.Image
	}
	if j.State.Health != nil {
		k.Health = knowledge.ParseHealth(j.State.Health.Status)
	}
	k.Service = serviceOf(k.Name, k.Labels)
	k.Hazards = hazardsOf(j.HostConfig, k.Labels)
	return k
}

// commandOf writes a command as the Engine's listing does (moby container/view.go): an
// argument with a blank is in quotes.
func commandOf(path string, args []string) string {
	words := append(make([]string, 0, len(args)+1), path)
	for _, a := range args {
		if strings.Contains(a, " ") {
			a = "'" + a + "'"
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}

// The values of knowledge.Limits.Dialect: which of two exclusive fields of the Engine's
// HostConfig carries the CPU limit. It is chosen when the container is created. 0 is a
// container without a CPU limit, whose first one goes into NanoCpus.
const (
	CPUNano  = knowledge.DialectCores // NanoCpus
	CPUQuota = CPUNano + 1            // CpuQuota and CpuPeriod
)

// limitsOf reads the Engine's record. A quota of -1 (a removed limit) keeps its dialect:
// the stored field blocks the other one.
func limitsOf(r *container.Resources) knowledge.Limits {
	l := knowledge.Limits{
		Shares:      max(r.CPUShares, 0),
		Memory:      min(knowledge.Bytes(max(r.Memory, 0)), knowledge.MaxBytes),
		MemorySwap:  min(knowledge.Bytes(max(r.MemorySwap, -1)), knowledge.MaxBytes),
		Reservation: min(knowledge.Bytes(max(r.MemoryReservation, 0)), knowledge.MaxBytes),
		Recorded:    recordedOf(r),
	}
	switch {
	case r.NanoCPUs > 0:
		l.Dialect = CPUNano
		l.CPU = min(knowledge.NanoCPU(r.NanoCPUs), knowledge.MaxCPU)
		l.Period = knowledge.DefaultPeriod
	case r.CPUQuota != 0 || r.CPUPeriod > 0:
		l.Dialect = CPUQuota
		l.Period = knowledge.DefaultPeriod
		if r.CPUPeriod > 0 && r.CPUPeriod <= int64(time.Second/time.Microsecond) {
			l.Period = time.Duration(r.CPUPeriod) * time.Microsecond
		}
		l.CPU = cpuOf(r.CPUQuota, l.Period)
	}
	return l
}

// cpuOf converts a quota in microseconds per period to cores, rounded up, so that it gives the
// same quota when it is converted back and cut; no quota is 0.
func cpuOf(quota int64, period time.Duration) knowledge.NanoCPU {
	switch {
	case quota <= 0:
		return 0
	case quota > math.MaxInt64/int64(2*time.Second):
		return knowledge.MaxCPU
	}
	us := max(period.Microseconds(), 1)
	return min(knowledge.NanoCPU((quota*int64(knowledge.OneCPU)+us-1)/us), knowledge.MaxCPU)
}

// hazardsOf names why an update could do harm: updates rewrite device rules and can take
// a GPU away (nvidia-container-toolkit issue 48); runtimes other than runc may behave
// differently; Swarm manages its tasks.
func hazardsOf(h *container.HostConfig, labels map[string]string) []string {
	var out []string
	nvidia := func(d container.DeviceMapping) bool { return strings.HasPrefix(d.PathOnHost, "/dev/nvidia") }
	if len(h.DeviceRequests) > 0 || strings.Contains(h.Runtime, "nvidia") || slices.ContainsFunc(h.Devices, nvidia) {
		out = append(out, "gpu")
	}
	switch h.Runtime {
	case "", "runc", "io.containerd.runc.v2":
	default:
		out = append(out, "runtime")
	}
	if labels[labelSwarmTask] != "" {
		out = append(out, "swarm")
	}
	return out
}

// parseTime reads RFC 3339; the year 1 ("never") and invalid values are zero.
func parseTime(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.Year() < 1970 {
		return time.Time{}
	}
	return t
}

func checkID(op operation, id knowledge.ContainerID) error {
	if knowledge.FullID(id) {
		return nil
	}
	return refuse(op, string(id), "this is not a full container id (64 hex digits)")
}
