// The options of plan, and their check.

import { fail } from '../errors.js'
import { checkChoice, checkInteger, checkNumber, checkOptions } from '../options.js'
import type { Topology } from './plan-collectives.js'

const where = 'plan'
export const maxDevices = 2 ** 20

/** Bytes per second of one direction of a device's link. */
export const links = {
  'pcie-4': 32e9,
  'pcie-5': 64e9,
  'nvlink-3': 300e9,
  'nvlink-4': 450e9,
  'nvlink-5': 900e9,
  'ethernet-100g': 12.5e9,
  'infiniband-ndr': 50e9,
} as const

/** A name of `links`, or bytes per second of one direction. */
export type Link = keyof typeof links | number

/** Options of {@link plan}. */
export interface PlanOptions {
  /** Data parallel: each holds all dense parameters, and some columns of the tables. Default 1. */
  devices?: number
  /** Devices that divide the columns of the tables. Default: what is fastest and fits `memory`. */
  columns?: number
  /** Between the devices of a machine: a name, or bytes per second. Default 'nvlink-4'. */
  link?: Link
  /** Of each device to those of other machines. Default 'infiniband-ndr'. */
  network?: Link
  /** Devices of a machine. Default 8. */
  perMachine?: number
  /** Bytes of a device, which the choice of the grid keeps to. Default 80e9. */
  memory?: number
  /** Multiply-adds per second of a device, as a step attains them. Default 2e14. */
  speed?: number
  /** Sequences of contextLength tokens a device and step. Default 1. */
  batch?: number
  /** Of states. Default 'adamw'. */
  optimizer?: 'adamw' | 'adagrad' | 'rowwiseAdagrad' | 'sgd'
}

/** {@link PlanOptions} with their defaults. */
export type CheckedPlan = Topology &
  Required<Pick<PlanOptions, 'batch' | 'memory' | 'speed' | 'optimizer'>> & {
    link: number
    network: number
    columns: number | undefined
  }

/** @throws ERR_OPTION, ERR_VALUE */
export function checkPlan(options: PlanOptions | undefined): CheckedPlan {
  const o = checkOptions(where, options, [
    'devices',
    'columns',
    'link',
    'network',
    'perMachine',
    'memory',
    'speed',
    'batch',
    'optimizer',
  ])
  const optimizers = ['adamw', 'adagrad', 'rowwiseAdagrad', 'sgd'] as const
  const devices = checkInteger(where, 'devices', o.devices ?? 1, 1, maxDevices)
  const columns =
    o.columns === undefined ? undefined : checkInteger(where, 'columns', o.columns, 1, devices)
  if (columns !== undefined && devices % columns !== 0)
    fail('ERR_VALUE', where, 'columns', `divide the ${devices} devices`, columns)
  return {
    devices,
    columns,
    perMachine: checkInteger(where, 'perMachine', o.perMachine ?? 8, 1, maxDevices),
    link: checkLink('link', o.link ?? 'nvlink-4'),
    network: checkLink('network', o.network ?? 'infiniband-ndr'),
    memory: checkInteger(where, 'memory', o.memory ?? 80e9),
    speed: checkPositive('speed', o.speed ?? 2e14),
    batch: checkInteger(where, 'batch', o.batch ?? 1),
    optimizer: checkChoice(where, 'optimizer', o.optimizer, optimizers),
  }
}

function checkPositive(name: string, value: unknown): number {
  const number = checkNumber(where, name, value, 0)
  if (number === 0) fail('ERR_VALUE', where, name, 'be above 0', value)
  return number
}

function checkLink(name: string, link: unknown): number {
  if (typeof link === 'number') return checkPositive(name, link)
  const names = Object.keys(links) as [keyof typeof links, ...(keyof typeof links)[]]
  return links[checkChoice(where, name, link, names)]
}
