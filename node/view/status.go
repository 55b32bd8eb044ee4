package view

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/node/api"
)

// namesShown bounds the names in one problem.
const namesShown = 8

// Daemon is the part of a status that is not about containers.
type Daemon struct {
	Version, ID, Name, Mode, ConfigFile string
	StartedAt                           time.Time
	Crashes                             int // within five minutes: safe mode

	Engine   Engine
	Machine  knowledge.Host // as the Engine describes it
	Cgroup   string         // version of the cgroup file system; "": cannot be read
	Actuator string
	Source   string // of the samples, where a container's control group is visible

	Store       string // why the knowledge file is degraded; "": it is not
	StoreOpened string // what happened to the knowledge file at the start; "": nothing

	Certificate api.Certificate // of the three services

	Stopping bool // an orderly stop is in progress

	Disagreements []string // between the labels of containers of one service
}

// Engine is the state of the connection to the Docker Engine.
type Engine struct {
	Up    bool
	Since time.Time // zero: since the daemon's start
	Error string
	// Address is where it listens, and what named that.
	Address string
	// Refusals are the requests that it does not allow, each with the effect.
	Refusals []string
}

// Status is the status of this host. It sorts containers by name; records are those of the
// last hour.
func Status(
	d *Daemon, containers []mape.ContainerStatus, sum *mape.Summary, records []knowledge.Record, now time.Time,
) api.Status {
	s := api.Status{
		Schema: api.Schema, Version: d.Version, Node: nodeView(d, sum, now), Problems: []string{},
		Containers: make([]api.ContainerView, 0, len(containers)),
	}
	slices.SortFunc(containers, byName)
	for i := range containers {
		c := &containers[i]
		s.Containers = append(s.Containers, Container(c, now))
		addContainer(&s, c, sum.Host.CPUs)
		addEnded(&s, c)
	}
	s.Services = services(containers, d.Name, float64(d.Machine.CPUs))
	s.Summary = summary(records)
	s.Summary.DriftRepaired = sum.Repaired
	s.Summary.SavedCPU, s.Summary.SavedMemory = Saved(containers)
	addProblems(&s, d, containers, sum, now)
	addSources(&s, d, containers)
	addLost(&s, containers)
	return s
}

// AddProblem adds a problem of this host.
func AddProblem(s *api.Status, kind, text string) {
	if s.ProblemKinds == nil {
		s.ProblemKinds = map[string]int{}
	}
	s.Problems = append(s.Problems, text)
	s.ProblemKinds[kind]++
}

func add(s *api.Status, kind, format string, args ...any) {
	AddProblem(s, kind, fmt.Sprintf(format, args...))
}

// degrade adds a problem with which this host is degraded.
func degrade(s *api.Status, kind, format string, args ...any) {
	add(s, kind, format, args...)
	s.Degraded = true
}

// addLost names the managed containers whose original limits are unknown.
func addLost(s *api.Status, containers []mape.ContainerStatus) {
	var names []string
	var at time.Time
	for i := range containers {
		c := &containers[i]
		if !c.Policy.Acts() || c.Original.Lost == [2]time.Time{} {
			continue
		}
		names = append(names, c.Container.Name)
		for _, lost := range c.Original.Lost {
			if lost.After(at) {
				at = lost
			}
		}
	}
	if len(names) == 0 {
		return
	}
	degrade(s, api.ProblemOriginal, "the original limits of %s are unknown: the knowledge file (node.data_dir) was lost, "+
		"or another daemon managed them, at %s; recreate them, or set their limits with docker update",
		list(names), at.UTC().Format(time.RFC3339))
}

func byName(a, b mape.ContainerStatus) int {
	return strings.Compare(a.Container.Name, b.Container.Name)
}

func nodeView(d *Daemon, sum *mape.Summary, now time.Time) api.NodeView {
	v := api.NodeView{
		ID: d.ID, Name: d.Name, Mode: d.Mode, StartedAt: d.StartedAt.UTC(),
		Ready: sum.Ready, SafeMode: d.Crashes > 0, CPUs: sum.Host.CPUs, CPUUsed: sum.HostCPU.Cores(),
		MemoryBytes: int64(sum.Host.Memory), MemoryUsed: int64(sum.HostUsed),
		PoolCPU: sum.Pool.Cores(), PoolCPUGranted: sum.Granted.Cores(),
		Engine: "connected", EngineVersion: d.Machine.EngineVersion, APIVersion: d.Machine.APIVersion, Members: 1,
		EngineAddress: d.Engine.Address, Stopping: d.Stopping,
		Actuator: d.Actuator, Source: d.Source, Store: "ok", ConfigFile: d.ConfigFile,
	}
	if !connected(d, sum) {
		since := d.Engine.Since
		if since.IsZero() {
			since = d.StartedAt
		}
		v.Engine = fmt.Sprintf("unreachable for %s: %s", now.Sub(since).Round(time.Second), d.Engine.Error)
	}
	if d.Cgroup == "" { // nothing else can be written
		v.Actuator = knowledge.ActuatorEngine.String()
	} else {
		v.Cgroup = strings.TrimSpace(d.Cgroup + " " + d.Machine.CgroupDriver)
	}
	if d.Store != "" {
		v.Store = "degraded: " + d.Store
	}
	return v
}

func connected(d *Daemon, sum *mape.Summary) bool { return d.Engine.Up && sum.Host.EngineDown.IsZero() }

// addProblems adds what concerns the whole node.
func addProblems(
	s *api.Status, d *Daemon, containers []mape.ContainerStatus, sum *mape.Summary, now time.Time,
) {
	switch {
	case !connected(d, sum):
		waits := "measuring and limits in force continue, limits to start with and new containers wait"
		if s.Node.Actuator == knowledge.ActuatorEngine.String() {
			waits = "limits and new containers wait"
		}
		degrade(s, api.ProblemEngine, "the Docker Engine is %s (docker.host); %s", s.Node.Engine, waits)
	case sum.ListError != "":
		degrade(s, api.ProblemEngine,
			"cannot list the containers of the Docker Engine (docker.host): %s; known ones are measured, new ones wait",
			sum.ListError)
	}
	for _, r := range d.Engine.Refusals {
		degrade(s, api.ProblemEngine, "the Docker Engine does not allow %s", r)
	}
	addFullHost(s, containers, sum, now)
	if text, invalid := d.Certificate.Problem(now); invalid {
		degrade(s, api.ProblemCertificate, "%s", text)
	} else if text != "" {
		AddProblem(s, api.ProblemCertificate, text)
	}
	if d.Store != "" {
		degrade(s, api.ProblemStore,
			"the knowledge file is %s (node.data_dir, store.max_size); scaling continues from memory", s.Node.Store)
	}
	if d.StoreOpened != "" {
		degrade(s, api.ProblemStore, "the knowledge file at the start: %s", d.StoreOpened)
	}
	if d.Crashes > 0 {
		degrade(s, api.ProblemCrashes,
			"safe mode: %d crashes within five minutes; limits are not changed. Read the log, then restart the service",
			d.Crashes)
	}
	for _, text := range d.Disagreements {
		AddProblem(s, api.ProblemLabel, text)
	}
}

func summary(records []knowledge.Record) (s api.Summary) {
	for _, r := range records {
		s.Actions += max(r.Action.Resize.Count, 1)
		switch r.Outcome.Result {
		case knowledge.ResultFailed, knowledge.ResultRefused:
			s.Failed++
		case knowledge.ResultReverted:
			s.Reverted++
		}
	}
	return s
}
