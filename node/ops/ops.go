package ops

import (
	"context"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/store"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/cluster"
	"github.com/effiscale/effiscale/node/config"
)

// About describes the daemon itself.
type About struct {
	Version     string
	Identity    store.Identity
	Started     time.Time
	Crashes     int                   // within five minutes: safe mode
	StoreOpened string                // what happened to the knowledge file at the start; "": nothing
	Source      string                // of the samples
	Cgroup      string                // version of the cgroup file system; "": cannot be read
	Machine     func() knowledge.Host // as the Engine, or else the kernel, describes it
	Config      func() *config.Config // in force
	// Engine is the state of the connection to the Docker Engine.
	Engine   func() (up bool, since time.Time, last string)
	Address  fmt.Stringer // of the Engine
	Stopping func() bool  // an orderly stop is in progress
	// Refusals are the requests that it does not allow; UpdateRefused is why it changes no limit.
	Refusals      func() []string
	UpdateRefused func() string
	Certificate   api.Certificate // of the three services
}

// Options are what operations work with.
type Options struct {
	About  About
	Loop   *mape.Loop
	Store  *store.Store
	Keys   *KeyRing
	Reload func(context.Context) error // of the configuration
	Log    zerolog.Logger
}

// Set is all operations of one daemon.
type Set struct {
	status
	explain
	plan
	records
	trace
	scale
	pause
	restore
	members
	leave
	*keys
	*controllers
	metrics
	Reach *Reach

	host   *host
	peers  *peers
	reload func(context.Context) error
}

// New makes the operations. Until Connect they answer for a node without a cluster.
func New(o Options) *Set {
	h := &host{name: o.About.Identity.Name, loop: o.Loop, store: o.Store, machine: o.About.Machine, log: o.Log,
		refused: o.About.UpdateRefused, reading: make(chan struct{}, 1)}
	p := &peers{self: h.name}
	f := finder{host: h, peers: p}
	held := &pauses{host: h}
	s := &Set{
		explain: explain{finder: f, source: o.About.Source}, plan: plan{h, p}, records: records{h, p}, trace: trace{h, p},
		scale: scale{f, newOnce(o.Store, o.Log)}, pause: pause{held, p}, restore: restore{f, held},
		leave: leave{p, o.Log}, keys: &keys{peers: p, ring: o.Keys, log: o.Log}, controllers: &controllers{host: h, peers: p},
		metrics: metrics{h}, Reach: &Reach{peers: p, log: o.Log}, host: h, peers: p, reload: o.Reload,
	}
	s.members = members{peers: p, keys: s.keys, reach: s.Reach}
	s.status = status{host: h, peers: p, members: s.members, about: &o.About}
	return s
}

// Connect makes the operations answer for the hosts of a cluster.
func (s *Set) Connect(c *cluster.Cluster) { s.peers.cluster = c }

// Reload reads the configuration again, all or nothing.
func (s *Set) Reload(ctx context.Context, _ api.None) (api.Done, error) {
	return api.Done{Status: "reloaded"}, s.reload(ctx)
}
