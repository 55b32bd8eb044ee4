package knowledge

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// NodeID is the identity of a node, the fingerprint of its key; its name may change.
type NodeID string

// ContainerID is the Engine's full id: 64 lower-case hex digits.
type ContainerID string

// FullID reports whether s has the form of the Engine's full ids. The Engine itself resolves a
// prefix of one digit, and any other text would become part of a URL or a path.
func FullID[T ~string](s T) bool {
	return len(s) == 64 && strings.Trim(string(s), "0123456789abcdef") == ""
}

// Short is what `docker ps` prints: the first 12 digits.
func (id ContainerID) Short() string {
	if len(id) > 12 {
		return string(id[:12])
	}
	return string(id)
}

// ServiceKey names containers that do the same work.
type ServiceKey string

// oneoffSuffix ends the key of containers that run once beside a service.
const oneoffSuffix = ".oneoff"

// ServiceOfProject is the key of a service of a project: two projects may have services
// whose names join alike. "": the names are none.
func ServiceOfProject(project, service string) ServiceKey {
	key := ServiceKey(project + "/" + service)
	if !ValidName(project) || !ValidName(service) || !ValidService(key) {
		return ""
	}
	return key
}

// Oneoff is the key of containers that run once beside a service: they are no replicas of
// it and teach it nothing.
func (k ServiceKey) Oneoff() ServiceKey {
	return k[:min(len(k), maxName-len(oneoffSuffix))] + oneoffSuffix
}

// Policy is the key by which a configuration names the service: that of the service beside
// which a container runs once.
func (k ServiceKey) Policy() ServiceKey {
	return ServiceKey(strings.TrimSuffix(string(k), oneoffSuffix))
}

// Aliases are other names of a project's service: its bare one, and project and service
// joined as earlier versions did; empty: it has none.
func (k ServiceKey) Aliases() (bare, joined string) {
	project, service, ok := strings.Cut(string(k), "/")
	if !ok {
		return "", ""
	}
	return service, project + "_" + service
}

// ValidService reports whether k can name a service: a name, or a project's and a service's
// with a slash between them, up to 128.
func ValidService(k ServiceKey) bool {
	project, service, ok := strings.Cut(string(k), "/")
	return len(k) <= maxName && ValidName(project) && (!ok || ValidName(service))
}

// ImageKey names containers of one image that run the same command, whatever
// service they belong to: the digest of the image in hex, and a hash of the
// command, which itself may hold secrets and is kept nowhere. "": not known.
type ImageKey string

// ImageKeyOf makes the key of an image's digest ("sha256:" and 64 hex digits) and
// a command line. Any other digest has none.
func ImageKeyOf(digest, command string) ImageKey {
	hexed, ok := strings.CutPrefix(digest, "sha256:")
	if !ok || len(hexed) != 2*sha256.Size || strings.Trim(hexed, "0123456789abcdef") != "" {
		return ""
	}
	sum := sha256.Sum256([]byte(command))
	return ImageKey(hexed + "-" + hex.EncodeToString(sum[:8]))
}

// RunState is the Engine's state of a container.
type RunState uint8

// The states, as the Engine names them.
const (
	StateUnknown RunState = iota
	StateCreated
	StateRunning
	StatePaused
	StateRestarting
	StateExited
	StateDead
)

// Runs reports whether there are processes, also when they are paused.
func (s RunState) Runs() bool { return s == StateRunning || s == StatePaused }

// Health is the result of a container's own health check.
type Health uint8

// The verdicts, as the Engine names them. HealthNone: it has no health check.
const (
	HealthNone Health = iota
	HealthStarting
	HealthHealthy
	HealthUnhealthy
)

// DefaultPeriod is the kernel's default CFS bandwidth period.
const DefaultPeriod = 100 * time.Millisecond

// DialectCores is the Limits.Dialect of a CPU limit that is a number of cores, at most the
// host's.
const DialectCores uint8 = 1

// Limits are what a container may use. A zero limit is no limit.
type Limits struct {
	CPU NanoCPU
	// Dialect is how the engine stores the CPU limit, in its adapter's own code. What
	// an inspect returned goes back with an update; 0: the engine's default.
	Dialect uint8         `json:"CPUField"`
	Period  time.Duration // of the CFS quota; 0: DefaultPeriod
	Shares  int64         // cpu.shares as Docker counts them; 0: the default, 1024
	Memory  Bytes
	// MemorySwap is memory plus swap, as Docker counts; -1: unlimited swap;
	// 0: not set (the Engine then allows as much swap as memory).
	MemorySwap Bytes
	// Reservation is the least memory limit with which the Engine starts the container;
	// an update accepts less. 0: none.
	Reservation Bytes `json:",omitzero"`
	// Recorded are the engine's own fields, for a restore.
	Recorded Recorded `json:"recorded,omitzero"`
}

// Recorded are the fields of the engine's record, not rounded and not bounded: CPU in
// billionths or in microseconds of quota and period, memory in bytes; 0: not set.
type Recorded struct {
	NanoCPUs   int64 `json:"nano_cpus,omitempty"`
	Quota      int64 `json:"cpu_quota,omitempty"`
	Period     int64 `json:"cpu_period,omitempty"`
	Memory     int64 `json:"memory,omitempty"`
	MemorySwap int64 `json:"memory_swap,omitempty"`
}

// RefusedAtStart says why the Engine would refuse to start a container with these limits
// on a host of so many CPUs, although an update took them; "": it would start it.
func (l *Limits) RefusedAtStart(cpus int) string {
	switch {
	case l.Memory > 0 && l.Memory < l.Reservation:
		return fmt.Sprintf("its memory limit of %s is below its memory reservation of %s", l.Memory, l.Reservation)
	case cpus > 0 && l.CPU > NanoCPU(cpus)*OneCPU && l.Dialect == DialectCores:
		return fmt.Sprintf("its CPU limit of %s cores is above the %d of the host", l.CPU, cpus)
	}
	return ""
}

// Container is one container as the Engine describes it.
type Container struct {
	ID      ContainerID
	Name    string // without the leading slash
	Labels  map[string]string
	Service ServiceKey
	// Image identifies the work, ImageName is the image's name as it was given.
	Image     ImageKey
	ImageName string
	State     RunState
	Health    Health
	Created   time.Time
	Restarts  int
	ExitCode  int // of the newest end, while it does not run

	// What follows is known after an inspect only.
	Inspected    bool
	PID          int
	StartedAt    time.Time
	CgroupParent string
	Limits       Limits
	// Hazards are the reasons for which an update could do harm: a GPU, a
	// foreign runtime, a Swarm task. Empty: none.
	Hazards []string
}

// ServiceOf names the service of a container: the label effiscale.service, else the
// first of the groups to which the engine's tools assign it, else its name. What is
// not a valid name is skipped.
func ServiceOf(name string, labels map[string]string, groups ...ServiceKey) ServiceKey {
	if s := strings.TrimSpace(labels["effiscale.service"]); ValidName(s) {
		return ServiceKey(s)
	}
	for _, s := range append(groups, ServiceKey(name[:min(len(name), maxName)])) {
		if ValidService(s) {
			return s
		}
	}
	return "unnamed" // as the Engine lists a container that is half removed
}

// maxName bounds what names a node, a zone or a service, in bytes.
const maxName = 128

// ValidName reports whether s can name a node, a zone or a service: letters,
// digits, _ . -, up to 128, the first a letter or digit.
func ValidName(s string) bool {
	for i := range len(s) {
		c := s[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || c != '_' && c != '.' && c != '-') {
			return false
		}
	}
	return s != "" && len(s) <= maxName
}

// ContainerSpec is a container to create.
type ContainerSpec struct {
	Name    string
	Image   string // tag, id or digest
	Command []string
	Env     []string
	Labels  map[string]string
	Limits  Limits // 0: no limit
	// Publish are TCP ports of the container that get a free port of 127.0.0.1.
	Publish []int
	Network string // name or mode ("none", "host"); empty: the engine's default
}

// LabelAllow lists the dangers of a container that its user accepts.
const LabelAllow = "effiscale.allow"

// CloneSpec says how a replica differs from the container that is its template.
type CloneSpec struct {
	Name   string
	Image  string // id, or digest on another host; empty: the template's, by id
	Slot   int    // its number among the service's replicas
	Labels map[string]string
	// Allow holds what the template's label effiscale.allow accepts, such as "shared-volumes".
	Allow []string
	// Anonymous are volumes that have a name and belong to one container nevertheless.
	Anonymous []string
}

// NetworkSpec is a network to create.
type NetworkSpec struct {
	Name       string
	Driver     string // empty: the engine's default
	Labels     map[string]string
	Internal   bool // without a way out of the host
	Attachable bool // of an overlay: containers may join, not only Swarm's tasks
}

// Image is an image that the host has.
type Image struct {
	ID               string // "sha256:" and 64 hex digits
	Tags, Digests    []string
	OS, Architecture string
	Size             Bytes
}

// Host is the machine as the Engine and the kernel report it.
type Host struct {
	Name          string
	CPUs          int   // as dockerd counts them: the bound of NanoCPUs
	Memory        Bytes // total
	EngineVersion string
	APIVersion    string
	CgroupVersion int    // 1 or 2, as the Engine reports it
	CgroupDriver  string // "cgroupfs" or "systemd"
	SwapLimit     bool   // the kernel accounts for swap
}

// EventKind is the kind of an Engine event.
type EventKind uint8

// The kinds. EventResync carries no container: the containers must be listed again.
const (
	EventResync EventKind = iota
	EventCreate
	EventStart
	EventDie
	EventDestroy
	EventUpdate
	EventRename
	EventHealth
	EventOOM
	EventPause
	EventUnpause
	EventKill // somebody sent a signal that ends it
	EventStop // somebody stopped it; comes after EventDie
)

// Event is a hint that a container changed. The listing is the truth.
type Event struct {
	Kind EventKind
	ID   ContainerID
	Name string
	At   time.Time
	// ExitCode is that of EventDie.
	ExitCode int
}
