// Package doctor checks what the daemon needs: configuration, Docker Engine, kernel, disk,
// clock and cluster. It changes nothing.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/effiscale/effiscale/docker/cgroup"
	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/config"
	"github.com/effiscale/effiscale/node/files"
)

// Options are the flags of `effiscale doctor`.
type Options struct {
	ConfigFile, Socket string
	Env                []string
}

// Run checks everything that the daemon needs, and changes nothing.
func Run(ctx context.Context, o Options) []api.Check {
	var d daemon
	if o.ConfigFile == "" {
		if cfg, err := config.LoadForUser("", o.Env, o.Socket); err == nil {
			d = askDaemon(ctx, cfg.API.Socket)
			o.ConfigFile = d.status.Node.ConfigFile
		}
	}
	cfg, err := config.LoadForUser(o.ConfigFile, o.Env, o.Socket)
	checks := []api.Check{verdict("configuration", "error", err, configurationText(cfg.File),
		"correct the keys that are named; `effiscale validate FILE` shows more")}
	if err != nil {
		cfg = config.Defaults()
		cfg.FitUser()
	} else {
		checks = append(checks, checkFiles(&cfg))
	}
	if d.socket != cfg.API.Socket {
		d = askDaemon(ctx, cfg.API.Socket)
	}
	engine, host, containers := checkEngine(ctx, cfg, o.Env, d.status.Node.EngineAddress)
	checks = append(checks, engine...)
	checks = append(checks, checkKernel(host, containers, cfg)...)
	checks = append(checks, checkClock(), checkDescriptors(), checkDisk(cfg), checkWriters(cfg), checkDaemon(d))
	return append(checks, checkCluster(ctx, cfg)...)
}

// checkFiles checks the files that the configuration names. Another user than the daemon's may
// not read them.
func checkFiles(cfg *config.Config) api.Check {
	severity := "error"
	warnings, err := files.Check(cfg, time.Now())
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		severity = "warning"
	}
	if err == nil && len(warnings) > 0 {
		severity, err = "warning", errors.New(strings.Join(warnings, "; "))
	}
	return verdict("files", severity, err, "tokens, certificate, keys, node.data_dir and api.socket can be used",
		"correct the file that is named")
}

// daemon is the answer of the daemon at a socket.
type daemon struct {
	socket string
	status api.Status // the zero value: it did not answer
	err    error
}

func askDaemon(ctx context.Context, socket string) daemon {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	s, err := api.OpStatus.Call(ctx, api.NewClient(socket), api.None{})
	if err != nil {
		return daemon{socket: socket, err: err}
	}
	return daemon{socket: socket, status: s}
}

// verdict is a check that failed with err, or is fine.
func verdict(name, severity string, err error, fine, remedy string) api.Check {
	if err != nil {
		return api.Check{Name: name, Severity: severity, Detail: err.Error(), Remedy: remedy}
	}
	return api.Check{Name: name, OK: true, Severity: severity, Detail: fine}
}

func configurationText(file string) string {
	if file == "" {
		return "defaults, no file"
	}
	return file + " is valid"
}

func driverText(driver string) string {
	if driver == "" {
		return "driver unknown: the Engine does not report it"
	}
	return "driver " + driver
}

// checkKernel checks the cgroup files, the right to write them, and which signals the kernel
// measures.
func checkKernel(h knowledge.Host, containers []knowledge.Container, cfg config.Config) []api.Check {
	k, err := cgroup.Open(cgroup.Options{Driver: h.CgroupDriver})
	if err != nil {
		return []api.Check{verdict("cgroups", "warning", err, "", "mount the cgroup file system where the daemon runs; "+
			"until then samples come from the Engine's statistics, which are slower and coarser")}
	}
	checks := []api.Check{verdict("cgroups", "warning", nil, k.Version()+", "+driverText(h.CgroupDriver), "")}
	checks = append(checks, checkWrite(k, containers, cfg))
	var noPSI error
	if !k.PSI() {
		noPSI = errors.New("this kernel does not measure pressure (PSI)")
	}
	checks = append(checks, verdict("pressure", "warning", noPSI, "PSI is measured",
		"boot with psi=1; without it decisions use throttling and refaults only"))
	var noSwap error
	if h.EngineVersion != "" && !h.SwapLimit {
		noSwap = errors.New("the kernel does not account for swap of containers")
	}
	return append(checks, verdict("swap accounting", "warning", noSwap, "swap is accounted",
		"boot with swapaccount=1; without it a container's swap has no limit"))
}

// checkClock compares the wall clock with the time at which this program was made: a clock
// before that is wrong. Intervals use the monotonic clock.
func checkClock() api.Check {
	var err error
	if info, statErr := os.Stat("/proc/self/exe"); statErr == nil && time.Now().Before(info.ModTime().Add(-time.Hour)) {
		err = fmt.Errorf("the clock is at %s, before this program was built (%s)",
			time.Now().UTC().Format(time.RFC3339), info.ModTime().UTC().Format(time.RFC3339))
	}
	return verdict("clock", "warning", err, time.Now().UTC().Format(time.RFC3339),
		"set the clock (timedatectl set-ntp true): the history and patterns of the day use it")
}

// descriptorsWanted suffices for a thousand containers at three files each.
const descriptorsWanted = 4096

func checkDescriptors() api.Check {
	var l unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l)
	if err == nil && l.Max < descriptorsWanted {
		err = fmt.Errorf("at most %d open files are allowed", l.Max)
	}
	return verdict("open files", "warning", err, fmt.Sprintf("%d", l.Max),
		"raise LimitNOFILE (ulimit -n): each container needs three files")
}

// diskWanted is the free space that the knowledge file may need at its default maximum.
const diskWanted = 64 << 20

func checkDisk(cfg config.Config) api.Check {
	dir := cfg.Node.DataDir
	existing := dir
	for existing != "/" {
		if _, err := os.Stat(existing); err == nil {
			break
		}
		existing = filepath.Dir(existing)
	}
	var s unix.Statfs_t
	err := unix.Statfs(existing, &s)
	free := int64(s.Bavail) * s.Bsize
	switch {
	case err != nil:
		err = fmt.Errorf("cannot check %s: %w", dir, err)
	case unix.Access(existing, unix.W_OK) != nil:
		err = fmt.Errorf("%s cannot be written: %w", existing, fs.ErrPermission)
	case free < diskWanted:
		err = fmt.Errorf("%s has %s of free space", dir, knowledge.Bytes(free))
	}
	remedy := "free disk space, or change node.data_dir; without it nothing is stored, and scaling continues"
	if errors.Is(err, fs.ErrPermission) {
		remedy = "run as root, or set node.data_dir to a directory that this user can write; " +
			"without one the daemon does not start"
	}
	return verdict("disk", "warning", err, fmt.Sprintf("%s, %s free", dir, knowledge.Bytes(free)), remedy)
}

// checkWriters tells which users may change something over loopback.
func checkWriters(cfg config.Config) api.Check {
	fine := "local users may read; changes without a token: " + api.Writers(cfg.API.SocketGroup)
	var err error
	switch {
	case cfg.API.Monitor == "" && cfg.API.Controller == "" && cfg.API.Execution == "":
		fine = "no service over TCP is configured"
	case cfg.API.TokensFile != "":
		fine = "each call of the three services needs a token of " + cfg.API.TokensFile
	default:
		err = api.CheckLocalUsers()
	}
	return verdict("services", "warning", err, fine,
		"set api.tokens_file; until then the three services refuse all changes")
}

func checkDaemon(d daemon) api.Check {
	err, fine := d.err, "running: "+d.status.Version
	if err == nil && d.status.Degraded {
		err = errors.New("running, and degraded: `effiscale status` shows why")
	}
	remedy := "" // most errors contain it
	if errors.Is(err, api.ErrNotRunning) {
		err = fmt.Errorf("not running: nothing answers at %s", d.socket)
		remedy = "start it (`sudo systemctl start effiscale`, or `effiscale run`), " +
			"or set its socket (--socket, EFFISCALE_SOCKET)"
	}
	return verdict("daemon", "warning", err, fine, remedy)
}
