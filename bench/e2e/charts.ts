// The figures of the study as SVG files: two panels each, BLEU and loss of the same prefixes.
import { init, type EChartsOption, type SeriesOption } from 'echarts'

/** What a panel shows. */
export interface Measure {
  readonly name: string
  readonly digits: number
  readonly color: string
}

export const bleuMeasure: Measure = { name: 'BLEU, 100 test records', digits: 1, color: '#1f6f8b' }
export const lossMeasure: Measure = { name: 'test loss, nats per token', digits: 3, color: '#b5523b' }

export interface Mark {
  readonly label: string
  readonly value: number
}

export interface Panel {
  readonly measure: Measure
  /** In the order of the x axis; null where nothing was measured. */
  readonly values: readonly (number | null)[]
  /** A line across the panel to compare with; of line figures. */
  readonly mark?: Mark
}

export interface Figure {
  readonly title: string
  /** In small print: what was held equal. */
  readonly subtitle: string
  readonly panels: readonly [Panel, Panel]
  readonly x: LineAxis | BarAxis
}

/** Numbers from 1, on a scale of logarithms. */
export interface LineAxis {
  readonly kind: 'line'
  readonly name: string
  readonly values: readonly number[]
}

/** Bars lie, so that their names have room. */
export interface BarAxis {
  readonly kind: 'bar'
  readonly names: readonly string[]
}

const width = 900
/** Of a panel and what stands around it, in pixels. */
const panel = { top: 108, width: 340, lineHeight: 220, barHeight: 34, below: 62 }
/** Left edges of the two panels. */
const lefts = { line: [60, 520], bar: [130, 570] } as const
const barPanelWidth = 300
const ink = '#333333'
const pale = '#e3e3e3'
const font = 'Helvetica, Arial, sans-serif'
const label = { color: ink, fontSize: 12 }

export function drawFigure(figure: Figure): string {
  const inner = figure.x.kind === 'line' ? panel.lineHeight : panel.barHeight * figure.x.names.length
  const height = panel.top + inner + panel.below
  const chart = init(null, null, { renderer: 'svg', ssr: true, width, height })
  try {
    chart.setOption(optionOf(figure, inner))
    return `${chart.renderToSVGString()}\n`
  } finally {
    chart.dispose()
  }
}

function optionOf({ title, subtitle, panels, x }: Figure, height: number): EChartsOption {
  const left = (i: number): number => lefts[x.kind][i] as number
  return {
    animation: false,
    backgroundColor: '#ffffff',
    textStyle: { fontFamily: font, color: ink },
    title: [
      {
        text: title,
        subtext: subtitle,
        left: 16,
        top: 10,
        textStyle: { fontSize: 17, color: '#111111' },
        subtextStyle: { fontSize: 12, color: '#666666' },
      },
      ...panels.map(({ measure }, i) => ({
        text: measure.name,
        left: left(i) - 6,
        top: panel.top - 36,
        textStyle: { fontSize: 13, color: measure.color },
      })),
    ],
    grid: panels.map((_, i) => ({
      left: left(i),
      top: panel.top,
      width: x.kind === 'line' ? panel.width : barPanelWidth,
      height,
    })),
    ...(x.kind === 'line' ? lineAxes(x, panels) : barAxes(x, panels)),
    series: panels.map((each, i) => seriesOf(each, i, x)),
  }
}

type Axes = Required<Pick<EChartsOption, 'xAxis' | 'yAxis'>>

function lineAxes({ name, values }: LineAxis, panels: Figure['panels']): Axes {
  const numbers = { customValues: [...values] }
  return {
    xAxis: panels.map((_, gridIndex) => ({
      gridIndex,
      type: 'log' as const,
      min: Math.min(...values) / 1.9,
      max: Math.max(...values) * 1.5,
      name,
      nameLocation: 'middle' as const,
      nameGap: 32,
      nameTextStyle: label,
      axisLabel: { ...label, ...numbers, formatter: (value: number) => value.toLocaleString('en-US') },
      axisTick: numbers,
      axisLine: { lineStyle: { color: ink } },
      splitLine: { show: false },
    })),
    yAxis: panels.map((each, gridIndex) => ({
      gridIndex,
      ...valueAxis(each, each.mark === undefined ? undefined : 0),
    })),
  }
}

/** Bars begin at 0, since their length is what is compared. */
function barAxes({ names }: BarAxis, panels: Figure['panels']): Axes {
  return {
    xAxis: panels.map((each, gridIndex) => ({ gridIndex, ...valueAxis(each, 0) })),
    yAxis: panels.map((_, gridIndex) => ({
      gridIndex,
      type: 'category' as const,
      data: [...names],
      inverse: true,
      axisLabel: { ...label, interval: 0, show: gridIndex === 0 },
      axisTick: { show: false },
      axisLine: { lineStyle: { color: ink } },
    })),
  }
}

/** From a round number, `least` or below it, to a round number, with room for the label of the highest. */
function valueAxis(
  { values, mark }: Panel,
  least = Number.POSITIVE_INFINITY,
): {
  readonly type: 'value'
  readonly min: number
  readonly max: number
  readonly interval: number
  readonly axisLabel: object
  readonly splitLine: object
} {
  const all = [...values, mark?.value ?? null].filter((value) => value !== null)
  const [low, high] = [Math.min(least, ...all), Math.max(...all)]
  const interval = roundStep((high - low) / 6)
  const min = Math.floor(low / interval) * interval
  const max = Math.ceil((high + 0.3 * interval) / interval) * interval
  const axisLabel = { ...label, formatter: (value: number) => String(Number(value.toFixed(3))) }
  return { type: 'value', min, max, interval, axisLabel, splitLine: { lineStyle: { color: pale } } }
}

/** 1, 2 or 5 times a power of ten, at least `step`. */
function roundStep(step: number): number {
  const power = 10 ** Math.floor(Math.log10(Math.max(step, 1e-3)))
  return power * ([1, 2, 5].find((factor) => factor * power >= step) ?? 10)
}

function seriesOf({ measure, values, mark }: Panel, index: number, x: Figure['x']): SeriesOption {
  const show = (value: number | null): string => value?.toFixed(measure.digits) ?? ''
  const common = {
    xAxisIndex: index,
    yAxisIndex: index,
    itemStyle: { color: measure.color },
    label: {
      show: true,
      ...label,
      formatter: ({ dataIndex }: { dataIndex: number }) => show(values[dataIndex] ?? null),
    },
    ...(mark !== undefined && { markLine: markOf(mark, measure) }),
  }
  if (x.kind === 'bar') {
    return {
      ...common,
      type: 'bar',
      barWidth: 18,
      data: values.map((value) => value ?? '-'),
      label: { ...common.label, position: 'right' },
    }
  }
  return {
    ...common,
    type: 'line',
    data: values.map((value, i) => [x.values[i] as number, value ?? '-']),
    symbol: 'circle',
    symbolSize: 8,
    lineStyle: { width: 2.5, color: measure.color },
    label: { ...common.label, position: 'top', offset: [isFalling(values) ? 14 : -10, 0] },
  }
}

/** The labels of a falling line stand to the right of their points, where the line is not. */
function isFalling(values: readonly (number | null)[]): boolean {
  const known = values.filter((value) => value !== null)
  return (known.at(-1) ?? 0) < (known[0] ?? 0)
}

function markOf({ label: text, value }: Mark, { digits }: Measure): object {
  return {
    silent: true,
    symbol: 'none',
    lineStyle: { type: 'dashed', color: '#777777', width: 1.5 },
    label: { formatter: `${text} ${value.toFixed(digits)}`, position: 'insideEndTop', color: '#555555', fontSize: 12 },
    data: [{ yAxis: value }],
  }
}
