package mape

import (
	"context"
	"time"

	"github.com/rs/zerolog"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/history"
	"github.com/effiscale/effiscale/knowledge/profile"
	"github.com/effiscale/effiscale/mape/execute"
	"github.com/effiscale/effiscale/mape/image"
	"github.com/effiscale/effiscale/mape/monitor"
	"github.com/effiscale/effiscale/mape/plan"
	"github.com/effiscale/effiscale/mape/service"
)

// Engine is what the loop needs of the Docker Engine besides execution's part.
type Engine interface {
	execute.Resizer
	List(ctx context.Context) ([]knowledge.Container, error)
	// State tells whether the Engine answers, since when, and its last error.
	State() (connected bool, since time.Time, lastErr string)
}

// Store is the store as the loop needs it.
type Store interface {
	execute.Journal
	// Commit writes one interval in one transaction.
	Commit(b Batch) error
}

// Batch is what one interval leaves for the disk, already packed.
type Batch struct {
	service.Packed
	Images map[image.CopyKey]image.StoredCopy // of this host and of others
	Marks  map[knowledge.ContainerID][]byte
	Folds  []knowledge.Record
	Alive  []knowledge.ContainerID // all containers that exist
}

// Restored is what the store has when the daemon starts.
type Restored struct {
	Profiles map[knowledge.ServiceKey]*profile.Profile
	Series   map[knowledge.ServiceKey]*history.Series
	Marks    map[knowledge.ContainerID][]byte
	Images   map[knowledge.ImageKey]*profile.Shared
	Models   map[knowledge.ServiceKey][]byte
	// Recent are the last hours by the minute, oldest first, of services with models.
	Recent    map[knowledge.ServiceKey][]history.Bucket
	Originals map[knowledge.ContainerID]knowledge.Original
	Pauses    map[knowledge.ServiceKey]knowledge.Pause
	Last      map[knowledge.ContainerID]knowledge.Record
	// Lost is when originals were lost; zero: never.
	Lost time.Time
	// Unclean: the daemon ended without saving.
	Unclean bool
}

// Owners are the nodes that plan for this host's services: they take its reports, and
// send envelopes, which come by ApplyIntents.
type Owners interface {
	// Report takes what this host's replicas did since the last deliberation. It
	// never blocks, and keeps the reports.
	Report(reports []plan.Report)
}

// Meter counts what the loop does.
type Meter interface {
	execute.Meter
	ObserveLoop(phase string, d time.Duration)
	Decision(direction, resource, rule string)
	Rejected(why string)
}

// Attach opens the source of a container's samples: its kernel files, or the Engine's
// statistics.
type Attach func(c knowledge.Container) (execute.Probe, error)

// HostReader reads the whole host's use.
type HostReader func() (cpu knowledge.NanoCPU, used, available knowledge.Bytes, ok bool)

// Settings are the configuration as the loop needs it; Reload exchanges them.
type Settings struct {
	Cadence         monitor.Cadence
	StaleAfter      int
	ListEvery       time.Duration
	DeliberateEvery time.Duration
	FlushEvery      time.Duration
	Rules           execute.Rules
	CPUReserve      float64 // share of the host that stays free
	MemoryReserve   float64
	MemoryLeast     knowledge.Bytes // kept free at least
	Overcommit      float64         // φ: what containers may use together over grantable cores
	Policy          func(knowledge.Container) knowledge.Policy
}

// Options are what a Loop works with.
type Options struct {
	Engine  Engine
	Store   Store
	Attach  Attach
	HostUse HostReader
	Host    knowledge.Host
	// Node is this host's name in the copies of images' profiles; "": none are kept.
	Node knowledge.NodeID
	// Seal signs this host's copies of images' profiles; nil: they have no signature.
	Seal image.Sign
	// Owners plan for what is managed here; nil: this loop does.
	Owners   Owners
	Meter    Meter
	Log      zerolog.Logger
	Now      func() time.Time
	Settings Settings
	// Crashes above 0 is safe mode.
	Crashes  int
	Restored Restored
	// OnReady is called once, after the first full pass.
	OnReady func()
	// OnTick is called after each tick, for the watchdog.
	OnTick func()
}
