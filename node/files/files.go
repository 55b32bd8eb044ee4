// Package files checks the files that a configuration names, as the start of the daemon uses
// them. The start, the reload, `effiscale validate` and `effiscale doctor` call it. It changes
// nothing.
package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/effiscale/effiscale/knowledge/store"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/cluster/member"
	"github.com/effiscale/effiscale/node/cluster/trust"
	"github.com/effiscale/effiscale/node/config"
)

// Check returns all faults with which the daemon does not start, and warnings about what it
// starts with.
func Check(c *config.Config, now time.Time) (warnings []string, err error) {
	warnings, err = api.CheckSecrets(api.Options{
		TokensFile: c.API.TokensFile, TLSCert: c.API.TLSCert, TLSKey: c.API.TLSKey}, now)
	errs := []error{err, checkKeys(c.Cluster.KeyFile), checkDataDir(c.Node.DataDir)}
	if err := api.CheckSocket(c.API.Socket); err != nil {
		errs = append(errs, err)
	} else if err := creatable(filepath.Dir(c.API.Socket)); err != nil {
		errs = append(errs, fmt.Errorf("cannot make the socket api.socket %s: %w; set it to a path that this user can make",
			c.API.Socket, err))
	}
	return warnings, errors.Join(errs...)
}

func checkKeys(file string) error {
	if file == "" {
		return nil
	}
	if _, err := member.ReadKeyFile(file); err != nil {
		return fmt.Errorf("cluster.key_file: %w", err)
	}
	return nil
}

func checkDataDir(dir string) error {
	err := creatable(dir)
	if _, statErr := os.Stat(dir); statErr == nil && errors.Is(err, syscall.EROFS) {
		err = nil // the store reads it, and works from memory
	}
	if err != nil {
		return fmt.Errorf("cannot use node.data_dir %s: %w; "+
			"run as root, or set it to a directory that this user may write", dir, err)
	}
	db := filepath.Join(dir, store.FileName)
	if info, err := os.Stat(db); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("cannot use node.data_dir %s: %s is not a regular file; remove it", dir, db)
	}
	return trust.CheckKey(dir)
}

// creatable reports why a directory that is there cannot be written, or one that is not there
// cannot be made.
func creatable(dir string) error {
	for {
		info, err := os.Stat(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist) && dir != filepath.Dir(dir):
			dir = filepath.Dir(dir)
			continue
		case err != nil:
			return err
		case !info.IsDir():
			return fmt.Errorf("%s is not a directory", dir)
		}
		const write, search = 2, 1
		if err := syscall.Access(dir, write|search); err != nil {
			return &fs.PathError{Op: "write to", Path: dir, Err: err}
		}
		return nil
	}
}
