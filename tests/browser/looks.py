"""What people see of a page, and what a screen reader tells of it, as the browser has computed it.

Promises: each function gives the offenders of one rule, with enough of them to be found; none is right.
Limits: contrast is of text on the nearest ground that is not transparent; nothing here has pictures behind
text.
Called by tests of this folder.
"""

from __future__ import annotations

import itertools
from typing import Any

from playwright.sync_api import Page

CONTROLS = {
    "button",
    "link",
    "textbox",
    "searchbox",
    "combobox",
    "checkbox",
    "radio",
    "listbox",
    "spinbutton",
}
NAMED = {*CONTROLS, "table", "region", "navigation", "search", "img", "image"}

_COLOURS = """
const number = text => { const all = text.match(/[\\d.]+/g).map(Number); return [...all, 1].slice(0, 4) }
const light = ([r, g, b]) => { const f = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4
  return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b) }
const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p)
  return (x + 0.05) / (y + 0.05) }
const ground = of => { for (let e = of; e; e = e.parentElement) {
  const c = number(getComputedStyle(e).backgroundColor); if (c[3] === 1) return c
  if (c[3] !== 0) throw new Error('half transparent') }
  throw new Error('no ground') }
const named = e => `${e.tagName.toLowerCase()}.${e.className} ${(e.textContent || '').trim().slice(0, 40)}`
"""
# Text below 4.5 (large: 3), and edges of inputs and buttons below 3, as WCAG AA has it.
_CONTRAST = (
    """() => {"""
    + _COLOURS
    + """
const found = []
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
for (let node; (node = walk.nextNode());) {
  const e = node.parentElement, style = getComputedStyle(e)
  if (!node.textContent.trim() || !e.checkVisibility() || e.closest('.hidden')) continue
  const size = parseFloat(style.fontSize), bold = Number(style.fontWeight) >= 700
  const least = size >= 24 || (bold && size >= 18.66) ? 3 : 4.5
  const is = ratio(number(style.color), ground(e))
  if (is < least) found.push(`${is.toFixed(2)} < ${least}: ${named(e)}`)
}
for (const e of document.querySelectorAll('input:not([type=hidden]), select, button:not(.quiet)')) {
  if (!e.checkVisibility()) continue
  const style = getComputedStyle(e), around = ground(e.parentElement)
  const is = Math.max(ratio(number(style.borderTopColor), around), ratio(ground(e), around))
  if (is < 3) found.push(`edge ${is.toFixed(2)} < 3: ${named(e)}`)
}
return found }"""
)
_SMALL = """() => [...document.querySelectorAll('button, input:not([type=hidden]), select, nav a, .why')]
  .filter(e => e.checkVisibility() && !e.matches('[type=checkbox]'))
  .filter(e => { const box = e.getBoundingClientRect(); return box.height < 24 || box.width < 24 })
  .map(e => `${e.tagName} ${e.textContent.trim()} ${e.getBoundingClientRect().height}`)"""
_WIDE = """() => document.documentElement.scrollWidth - document.documentElement.clientWidth"""
_FOCUS = (
    """() => {"""
    + _COLOURS
    + """
const e = document.activeElement, style = getComputedStyle(e), box = e.getBoundingClientRect()
const seen = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2
  && ratio(number(style.outlineColor), ground(e.parentElement || e)) >= 3
const all = [...document.querySelectorAll('a[href], button, input, select, [tabindex="0"]')]
const there = all.filter(one => one.checkVisibility() && one.type !== 'hidden')
return { place: all.indexOf(e), count: there.length,
  body: e === document.body, seen, shown: box.bottom > 0 && box.top < innerHeight, name: named(e) } }"""
)


def contrast(page: Page) -> list[str]:
    """Texts and edges that stand out too little from what is behind them."""
    found: list[str] = page.evaluate(_CONTRAST)
    return found


def small(page: Page) -> list[str]:
    """What is clicked and is smaller than 24 pixels either way."""
    found: list[str] = page.evaluate(_SMALL)
    return found


def too_wide(page: Page) -> int:
    """By how many pixels the page is wider than its window."""
    found: int = page.evaluate(_WIDE)
    return found


def focus(page: Page) -> dict[str, Any]:
    """Where the focus is, whether it can be seen, and how many places there are for it."""
    found: dict[str, Any] = page.evaluate(_FOCUS)
    return found


def told(page: Page) -> list[dict[str, Any]]:
    """What a screen reader is told, in order: role, name, and the level of a heading."""
    session = page.context.new_cdp_session(page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    session.detach()
    return [
        {
            "role": node["role"]["value"],
            "name": node.get("name", {}).get("value", "").strip(),
            "level": next(
                (p["value"]["value"] for p in node.get("properties", []) if p["name"] == "level"), None
            ),
        }
        for node in nodes
        if not node["ignored"]
    ]


def unheard(page: Page) -> list[str]:
    """What is wrong in what a screen reader is told: names, landmarks, the order of headings."""
    nodes = told(page)
    found = [f"{node['role']} has no name" for node in nodes if node["role"] in NAMED and not node["name"]]
    roles = [node["role"] for node in nodes]
    found += [
        f"{roles.count(role)} of {role}"
        for role in ("banner", "main", "contentinfo")
        if roles.count(role) != 1
    ]
    levels = [node["level"] for node in nodes if node["role"] == "heading"]
    if levels.count(1) != 1 or levels[:1] != [1]:
        found.append(f"headings begin otherwise than with one of level 1: {levels}")
    found += [
        f"level {after} after {before}" for before, after in itertools.pairwise(levels) if after > before + 1
    ]
    navigations = [node["name"] for node in nodes if node["role"] in ("navigation", "region", "search")]
    if len(navigations) != len(set(navigations)):
        found.append(f"two of one name: {navigations}")
    return found
