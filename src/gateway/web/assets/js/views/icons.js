// Small line drawings for buttons, on a grid of 24. They are decoration: the button bears the name.

const PATHS = {
  add: 'M12 5v14M5 12h14',
  archive: 'M4 7h16v4H4zM6 11v8h12v-8M10 14h4',
  back: 'M15 5l-7 7 7 7',
  ban: 'M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18M6 6l12 12',
  bell: 'M6 16V11a6 6 0 1 1 12 0v5l2 2H4zM10 20.5h4',
  bellOff: 'M6 16V11a6 6 0 0 1 9-5M18 11v5l2 2H7M10 20.5h4M4 4l16 16',
  check: 'M5 12.5l4.5 4.5L19 7.5',
  clock: 'M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18M12 7v5l3.5 2',
  close: 'M6 6l12 12M18 6L6 18',
  copy: 'M9 9h11v11H9zM5 15H4V4h11v1',
  device: 'M5 5h14v10H5zM3 19h18',
  down: 'M12 5v14M6 13l6 6 6-6',
  edit: 'M4 20l1-4L16.5 4.5l3 3L8 19zM14 7l3 3',
  exit: 'M10 5H5v14h5M14 8l4 4-4 4M18 12H9',
  forward: 'M14 7l5 5-5 5M19 12H11a6 6 0 0 0-6 6',
  gear: 'M12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6M12 3v3M12 18v3M3 12h3M18 12h3M5.6 5.6l2.2 2.2M16.2 16.2l2.2 2.2M18.4 5.6l-2.2 2.2M7.8 16.2l-2.2 2.2',
  group: 'M9 5a3 3 0 1 0 0 6 3 3 0 0 0 0-6M3 19c0-3 2.5-5 6-5s6 2 6 5M16 5.5a3 3 0 0 1 0 5.5M17.5 14.3c2.2.6 3.5 2.3 3.5 4.7',
  info: 'M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18M12 11v5M12 8v.01',
  key: 'M8 11a4 4 0 1 0 0 8 4 4 0 0 0 0-8M11 12l8-8M16 7l3 3',
  link: 'M10 14a4 4 0 0 0 6 0l3-3a4 4 0 0 0-6-6l-1 1M14 10a4 4 0 0 0-6 0l-3 3a4 4 0 0 0 6 6l1-1',
  more: 'M5 11.5v1M12 11.5v1M19 11.5v1',
  pin: 'M9 4h6l-1 6 3 3H7l3-3zM12 13v7',
  react: 'M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18M9 10v.01M15 10v.01M8.5 14.5c2 2.5 5 2.5 7 0',
  reply: 'M10 7l-5 5 5 5M5 12h8a6 6 0 0 1 6 6',
  search: 'M11 5a6 6 0 1 0 0 12 6 6 0 0 0 0-12M15.5 15.5L20 20',
  send: 'M4 12l16-7-6 16-3-7z',
  trash: 'M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13',
  undo: 'M8 6L4 10l4 4M4 10h10a5 5 0 0 1 0 10h-3',
  unread: 'M4 6h16v12H4zM4 7l8 6 8-6',
  user: 'M12 4a4 4 0 1 0 0 8 4 4 0 0 0 0-8M4 20c0-4 3.5-6 8-6s8 2 8 6',
};

export function icon(name) {
  const space = 'http://www.w3.org/2000/svg';
  const svg = document.createElementNS(space, 'svg');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('class', 'icon');
  svg.setAttribute('aria-hidden', 'true');
  const path = document.createElementNS(space, 'path');
  path.setAttribute('d', PATHS[name]);
  svg.append(path);
  return svg;
}
