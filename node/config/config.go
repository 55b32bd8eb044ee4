// Package config turns a TOML file, the environment and container labels into
// checked values. It is the only package that imports a TOML library.
//
// Defaults holds every default. Load puts a file and then the environment over
// them and reports all problems at once, each with its place, the value and the
// valid values. PolicyFor joins the defaults, the class preset, the
// service's table and the labels of one container. A value that was loaded
// without an error is inside its bounds and needs no further check.
package config

import (
	"fmt"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// Config is the whole configuration of one daemon. It is plain data and may be
// copied; PolicyFor only reads, so one value serves many goroutines.
type Config struct {
	Node    Node
	Docker  Docker
	API     API
	Cluster Cluster
	Monitor Monitor
	// Policy holds the defaults of every container, before its class, its
	// service's table and its labels. Mode and Class are set per container.
	Policy knowledge.Policy
	// Classes are the presets, Services the [service."name"] tables.
	Classes  map[knowledge.Class]Patch
	Services map[knowledge.ServiceKey]Patch
	Limits   Limits
	Store    Store
	Log      Log

	// File is where the configuration was read from; "": defaults only.
	File string
	// Origins tells for each key ("node.mode") that is not a default where its
	// value was set.
	Origins map[string]Origin
}

// Node is the daemon itself.
type Node struct {
	Name    string         // shown to users and peers; "": the host's name
	DataDir string         // absolute
	Mode    knowledge.Mode // of managed containers without a mode of their own
	Zone    string
}

// Docker is the Engine and the connection to it.
type Docker struct {
	Host     string // unix:///path or tcp://host:port
	Actuator knowledge.Actuator
	Timeout  time.Duration // of one update or listing; an inspect gets half of it
	// OnlyLabel is "key" or "key=value": containers without that label are not
	// even seen. "": all are.
	OnlyLabel string
}

// API holds the addresses of the three services and of the local socket.
type API struct {
	Monitor, Controller, Execution string // host:port; port 0: any free one; "": left out
	Socket                         string // absolute path
	SocketGroup                    string // may use the socket; "": root only
	TokensFile                     string // "": no tokens
	TLSCert, TLSKey                string // both or none
	Hosts                          []string
}

// Cluster is the membership of this node. BindAddress, AdvertiseAddress, RelayAddress
// and Peers give the addresses with everything filled in.
type Cluster struct {
	Name string // the same on all members
	// Bind is where gossip listens, TCP and UDP: an IP address with a port; port 0:
	// any free one.
	Bind      string
	Advertise string   // announced to others: host:port or host; "": Bind
	Relay     string   // where calls of other nodes are answered: as Bind; "": the port after Bind's
	Join      []string // host:port or host, as written
	// KeyFile holds the keys that encrypt gossip. It is "" only where Bind and Relay
	// are loopback.
	KeyFile     string
	Timing      string   // fast, lan, wan
	Attestation string   // off, quorum
	Allow       []string // CIDRs that members must be in; none: all may be
	PacketSize  int      // most bytes of a gossip packet
}

// Monitor holds the measuring intervals.
type Monitor struct {
	HotEvery        time.Duration // throttled or fast growing containers
	Every           time.Duration // busy containers
	IdleEvery       time.Duration // idle containers
	SlowEvery       time.Duration // memory detail, pressure, I/O, pids
	ListEvery       time.Duration // the listing that repairs missed events
	DeliberateEvery time.Duration // the slow loop
	StaleAfter      int           // intervals after which a reading is stale
	Budget          float64       // share of one core that measuring may cost, 0..1
}

// Limits bound what all policies together may do to the host.
type Limits struct {
	HostCPUReserve    float64 // share of the host's cores, 0..1
	HostMemoryReserve float64 // share of the host's memory, 0..1
	// HostMemoryLeast is kept free at least, if it is more than the share.
	HostMemoryLeast knowledge.Bytes
	CPUOvercommit   float64 // what containers may use together over the cores that may be granted
	// ContainerCPUMax and ContainerMemoryMax are above every label; 0: the host.
	ContainerCPUMax    knowledge.NanoCPU
	ContainerMemoryMax knowledge.Bytes
	ActionsPerMinute   int     // of one container
	StepUp             float64 // greatest factor of one growth outside a boost
	StepDown           float64 // least factor of one cut
}

// Store is the knowledge file.
type Store struct {
	MaxSize    knowledge.Bytes
	FlushEvery time.Duration
}

// Log is the daemon's log.
type Log struct {
	Level  string // debug, info, warn, error
	Format string // auto, json, console
}

// Setting is one policy key of a class or a service: its canonical text as a
// label would carry it, and where it was set.
type Setting struct {
	Key    string
	Value  string
	Origin Origin
}

// Patch lays settings over a policy, in the order of their keys.
type Patch []Setting

// with returns the patch with one setting put in place of the same key's.
func (p Patch) with(s Setting) Patch {
	out := make(Patch, 0, len(p)+1)
	for _, old := range p {
		if old.Key != s.Key {
			out = append(out, old)
		}
	}
	return append(out, s)
}

// Source says which layer a value comes from, from weak to strong.
type Source uint8

// The layers.
const (
	FromDefault Source = iota
	FromFile
	FromEnv
)

// Origin is the place where a value was set. The zero value is a default.
type Origin struct {
	Source       Source
	File         string // with FromFile
	Line, Column int    // from 1, with FromFile
	Env          string // the variable, with FromEnv
}

// String is "default", "file:line" or the variable's name.
func (o Origin) String() string {
	switch o.Source {
	case FromFile:
		return fmt.Sprintf("%s:%d", o.File, o.Line)
	case FromEnv:
		return o.Env
	}
	return "default"
}

// OriginOf tells where the value of a key ("node.mode") was set.
func (c *Config) OriginOf(key string) Origin { return c.Origins[key] }
