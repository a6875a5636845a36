//go:build !linux

package state

// Guard, Guarded and Watch are there to be compiled, as Open is.
func (d *Dir) Guard() (release func(), err error) { return nil, supported() }

// Guarded is Guard's question.
func (d *Dir) Guarded() bool { return false }

// Watch tells of changes to the folder.
func (d *Dir) Watch() (changes <-chan struct{}, stop func(), err error) {
	return nil, nil, supported()
}
