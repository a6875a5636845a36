package top

import (
	"unicode/utf8"

	"github.com/gdamore/tcell/v3"
)

// key answers a key.
func (v *screen) key(e *tcell.EventKey) {
	if e.Key() == tcell.KeyCtrlC {
		v.quit = true
		return
	}
	switch v.mode {
	case filtering:
		v.typed(e)
	case asking:
		v.mode, v.message = watching, "nothing is killed"
		if e.Key() == tcell.KeyRune && (e.Str() == "y" || e.Str() == "Y") {
			v.kill()
		}
	case helping:
		v.mode = watching
	default:
		v.message = ""
		if e.Key() == tcell.KeyRune {
			v.letter(e.Str())
		} else {
			v.special(e.Key())
		}
	}
}

func (v *screen) letter(key string) {
	switch key {
	case "q":
		v.quit = true
	case "h":
		v.show(ByHost)
	case "e":
		v.show(ByEntry)
	case "d":
		v.show(ByDestination)
	case "f":
		v.show(ByFlow)
	case "s", ">":
		v.sortBy(1)
	case "<":
		v.sortBy(-1)
	case "r":
		v.settings.question.Reversed = !v.settings.question.Reversed
		v.changed()
	case "/":
		v.mode, v.text = filtering, v.settings.question.Text
	case "p", " ":
		v.settings.paused = !v.settings.paused
		v.changed()
	case "k":
		v.ask()
	case "+":
		v.pace(true)
	case "-":
		v.pace(false)
	case "?":
		v.mode = helping
	}
}

func (v *screen) special(key tcell.Key) {
	page := max(1, v.height-1)
	switch key {
	case tcell.KeyTab:
		v.show((v.view + 1) % views)
	case tcell.KeyBacktab:
		v.show((v.view + views - 1) % views)
	case tcell.KeyRight:
		v.sortBy(1)
	case tcell.KeyLeft:
		v.sortBy(-1)
	case tcell.KeyUp:
		v.move(-1)
	case tcell.KeyDown:
		v.move(1)
	case tcell.KeyPgUp:
		v.move(-page)
	case tcell.KeyPgDn:
		v.move(page)
	case tcell.KeyHome:
		v.move(-len(v.rows))
	case tcell.KeyEnd:
		v.move(len(v.rows))
	case tcell.KeyEscape:
		v.filter("")
	case tcell.KeyCtrlL:
		v.terminal.Sync()
	}
}

// typed is a key while the filter is typed. It holds as it is typed.
func (v *screen) typed(e *tcell.EventKey) {
	switch e.Key() {
	case tcell.KeyEnter:
		v.mode = watching
	case tcell.KeyEscape:
		v.mode = watching
		v.filter("")
	case tcell.KeyBackspace:
		_, n := utf8.DecodeLastRuneInString(v.text)
		v.filter(v.text[:len(v.text)-n])
	case tcell.KeyCtrlU:
		v.filter("")
	case tcell.KeyRune:
		v.filter(v.text + e.Str())
	}
}

func (v *screen) filter(text string) {
	v.text = text
	v.settings.question.Text = text
	v.changed()
}

// help is what ? shows.
var help = []string{
	"tab, h e d f      by host, entry, destination, flow",
	"s, > and <        sort by the next column, or the one before",
	"r                 the other way round",
	"/                 only rows that hold a text; Esc takes it away",
	"p, space          pause",
	"k                 kill the flows of the selected row; it asks first",
	"up, down, pgup, pgdn, home, end",
	"                  select a row",
	"+ -               a longer or a shorter interval",
	"q                 quit",
	"",
	"SENT and RECV are bits a second, PKT packets a second. By host it is",
	"the host that sends; elsewhere the side that opened the flow.",
	"BYTES are of both directions, since the flows began.",
}

// keysLine is the last line when there is nothing else to say: as many keys as
// there is room for.
func keysLine(width int) string {
	line := ""
	for _, key := range []string{"? help  ", "q quit  ", "tab view  ", "< > sort  ", "/ filter  ", "k kill  ", "p pause  ", "r reverse  ", "+ - interval"} {
		if len(line)+len(key) > width {
			break
		}
		line += key
	}
	return line
}
