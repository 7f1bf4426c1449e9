"""Multiple-choice items over 24 everyday subjects, written for this project.

One item a line: question | right answer | wrong | wrong | wrong. They are easy on purpose: a
135 M-parameter model must be clearly above the 25 % of chance, so that a fall of its ability after
an attack can be seen.
"""

from __future__ import annotations

ABILITY_ITEMS: dict[str, str] = {
    "animals": """
What sound does a dog make? | It barks | It sings | It rings | It types
Which animal gives us milk? | The cow | The eagle | The shark | The snake
What do bees make? | Honey | Bread | Paper | Wine
Which animal has a very long neck? | The giraffe | The mouse | The frog | The hedgehog
Where do fish live? | In water | In trees | On clouds | In caves of fire
Which animal has a trunk? | The elephant | The rabbit | The duck | The wolf
What does a caterpillar become? | A butterfly | A fish | A spider | A bird
What is a baby cat called? | A kitten | A calf | A cub scout | A chick
What is a baby dog called? | A puppy | A foal | A lamb | A tadpole
Which animal carries its young in a pouch? | The kangaroo | The horse | The lion | The whale
What do cows usually eat? | Grass | Meat | Coins | Sand
Which bird cannot fly? | The penguin | The eagle | The swallow | The gull
What covers the body of a bird? | Feathers | Scales | Bark | Wool
How many legs does a spider have? | Eight | Two | Three | Fifty""",
    "geography": """
What is the capital of France? | Paris | Oslo | Cairo | Lima
What is the capital of Italy? | Rome | Tokyo | Dublin | Delhi
What is the capital of Japan? | Tokyo | Madrid | Ottawa | Athens
What is the capital of Spain? | Madrid | Berlin | Seoul | Nairobi
What is the capital of Germany? | Berlin | Lisbon | Havana | Hanoi
In which continent is Egypt? | Africa | Europe | South America | Australia
In which continent is China? | Asia | Africa | Europe | Antarctica
In which continent is Brazil? | South America | Asia | Europe | Antarctica
Which is the largest ocean? | The Pacific Ocean | The Arctic Ocean | The Black Sea | The Dead Sea
Which river flows through Egypt? | The Nile | The Thames | The Mississippi | The Rhine
Which country has the city of London? | England | Canada | Mexico | Russia
What is a large area of dry sand called? | A desert | A lake | A glacier | A harbour
What is the highest mountain in the world? | Mount Everest | Mount Fuji | Ben Nevis | Table Mountain
Which country is famous for the Eiffel Tower? | France | Japan | Brazil | Kenya""",
    "body_and_health": """
Which organ pumps blood? | The heart | The skin | The nose | The tongue
Which organ do we think with? | The brain | The knee | The liver | The elbow
What do we breathe with? | The lungs | The ears | The hair | The toes
What do we see with? | The eyes | The hands | The bones | The feet
How many fingers are on one hand? | Five | Nine | Twelve | Two
What do we brush to keep them clean and white? | Teeth | Knees | Elbows | Lungs
What should you do before eating? | Wash your hands | Paint the table | Close your eyes | Run a mile
What do you drink when you are thirsty? | Water | Oil | Ink | Sand
Who helps people when they are ill? | A doctor | A pilot | A baker | A painter
What protects the brain? | The skull | The stomach | The foot | The lip
Which sense uses the nose? | Smell | Sight | Hearing | Touch
Which sense uses the ears? | Hearing | Taste | Smell | Sight
What do people do at night to rest? | Sleep | Shout | Climb | Drive""",
    "food": """
What is bread mainly made from? | Flour | Sand | Milk powder and glue | Leaves
What is cheese made from? | Milk | Rice | Apples | Stone
Which of these is a fruit? | Banana | Carrot | Bread | Cheese
Which of these is a vegetable? | Carrot | Chicken | Cake | Chocolate
What colour is a ripe banana? | Yellow | Blue | Black and white | Purple
What do we use to eat soup? | A spoon | A knife | A hammer | A comb
Which drink is made from leaves in hot water? | Tea | Milk | Cola | Lemonade
Where do you keep food cold? | In the refrigerator | In the oven | In the wardrobe | In the garden
What makes food taste salty? | Salt | Sugar | Water | Flour
Which food comes from chickens? | Eggs | Apples | Rice | Potatoes
What fruit is used to make wine? | Grapes | Bananas | Onions | Beans
What do you use to bake a cake? | An oven | A fridge | A bicycle | A lamp
What is sushi usually made with? | Rice and fish | Bread and jam | Pasta | Corn and honey""",
    "science": """
What happens to ice when it gets warm? | It melts | It burns | It grows | It sings
What is frozen water called? | Ice | Steam | Smoke | Stone
What do plants need to grow? | Sunlight and water | Salt and darkness | Music | Paper and glass
What gas do people need to breathe? | Oxygen | Helium | Neon | Chlorine
What is the closest star to the Earth? | The Sun | The Moon | Mars | Pluto
What force pulls things down to the ground? | Gravity | Colour | Sound | Light
Which planet do we live on? | Earth | Mars | Saturn | Venus
What does a magnet attract? | Iron | Wood | Paper | Plastic
What is H2O? | Water | Gold | Sugar | Air
At how many degrees Celsius does water boil? | 100 | 10 | 2 | 900
What instrument shows us distant stars? | A telescope | A thermometer | A stethoscope | A ruler
What do we measure with a thermometer? | Temperature | Distance | Weight | Time
Who studies plants? | A botanist | A pianist | A dentist | A linguist""",
    "everyday_objects": """
What do you use to cut paper? | Scissors | A spoon | A pillow | A towel
What do you use when it rains? | An umbrella | A fan | A fork | A candle
What do you use to tell the time? | A clock | A plate | A brush | A chair
What do you sleep in? | A bed | A bag of rice | A bookshelf | A bottle
What do you use to unlock a door? | A key | A cup | A pencil | A sock
What do you use to write on paper? | A pen | A shoe | A window | A bowl
What do you wear on your feet? | Shoes | Gloves | Hats | Glasses
What do you wear on your hands in winter? | Gloves | Boots | Belts | Ties
What do you use to dry yourself after a bath? | A towel | A newspaper stand | A stone | A fork
What gives light in a dark room? | A lamp | A carpet | A pillow | A curtain
What do you sit on? | A chair | A ceiling | A cloud | A wall
What do you use to call somebody far away? | A telephone | A toaster | A mirror | A broom
What do you use to sweep the floor? | A broom | A guitar | A wallet | A pan""",
    "language": """
What is the opposite of hot? | Cold | Warm | Red | Loud
What is the opposite of big? | Small | Large | Huge | Tall
What is the opposite of day? | Night | Sun | Noon | Week
What is the opposite of up? | Down | Over | High | Above
What is the opposite of happy? | Sad | Glad | Green | Fast
Which word means the same as quick? | Fast | Slow | Heavy | Old
Which word means the same as begin? | Start | End | Sleep | Lose
Which word means the same as large? | Big | Tiny | Thin | Quiet
What is the plural of child? | Children | Childs | Childes | Childer
What is the plural of mouse? | Mice | Mouses | Moose | Mouse's
What is the past tense of go? | Went | Goed | Gone to | Going
Which letter comes after A? | B | Z | Q | M
How do you say "thank you" in French? | Merci | Hola | Danke | Ciao""",
    "numbers": """
What is two plus two? | Four | Nine | Eleven | Zero
What is ten minus five? | Five | Twenty | One | Nine
How many days are in a week? | Seven | Four | Twelve | Thirty
How many months are in a year? | Twelve | Five | Nine | Forty
How many hours are in a day? | Twenty-four | Ten | Sixty | Seven
How many minutes are in an hour? | Sixty | Twelve | Five | Two hundred
What is three times three? | Nine | Five | Thirty | Seven
What is half of ten? | Five | Eight | Twenty | Three
How many sides does a triangle have? | Three | Six | Eight | Ten
How many wheels does a bicycle have? | Two | Seven | Five | Nine
How many legs does a cat have? | Four | Six | One | Ten
What number comes after nine? | Ten | Six | Two | Thirty
What is one hundred divided by ten? | Ten | Three | Seventy | Six""",
    "history_and_culture": """
Who wrote Romeo and Juliet? | William Shakespeare | Albert Einstein | Napoleon | Walt Disney
Who painted the Mona Lisa? | Leonardo da Vinci | Isaac Newton | Charles Darwin | Julius Caesar
Who was the first president of the USA? | George Washington | Queen Victoria | Mozart | Gandhi
Which people built the pyramids of Giza? | The Egyptians | The Vikings | The Romans | The Aztecs
Who discovered the theory of relativity? | Albert Einstein | Elvis Presley | Cleopatra | Homer
In which year did the Second World War end? | 1945 | 1815 | 1492 | 2001
Where did the first Olympic Games take place? | In Greece | In Canada | In Australia | In Iceland
Which holiday is on 25 December? | Christmas | Easter | Halloween | Midsummer
Who was the first person to walk on the Moon? | Neil Armstrong | Marco Polo | Beethoven | Plato
Which people did Julius Caesar rule? | The Romans | The Incas | The Mongols | The Maya
Who composed the Ninth Symphony? | Ludwig van Beethoven | Pablo Picasso | Mark Twain | Louis Pasteur
Which ship hit an iceberg in 1912? | The Titanic | The Mayflower | The Victory | The Beagle""",
    "weather_and_seasons": """
What falls from the sky when it rains? | Water | Sand | Leaves | Feathers
In which season does snow usually fall? | Winter | Summer | Spring | Harvest
Which season is the hottest? | Summer | Winter | Autumn | Spring
What do you see in the sky after rain and sun? | A rainbow | A mountain | A train | A bridge
What is a storm with a spinning column of air called? | A tornado | A sunrise | A puddle | A breeze
What do we hear after lightning? | Thunder | Music | Silence forever | Applause
What moves the leaves of the trees? | The wind | The moon | The stones | The clock
What do leaves do in autumn? | They fall from the trees | They become stone | They swim | They sing
What colour is the sky on a clear day? | Blue | Green | Brown | Black
What are clouds made of? | Tiny drops of water | Cotton | Smoke and sugar | Feathers
What rises in the morning? | The Sun | The street | The river | The floor
What should you wear in cold weather? | A warm coat | A swimsuit | Sunglasses only | Sandals""",
    "jobs": """
Who flies an aeroplane? | A pilot | A baker | A dentist | A farmer
Who bakes bread? | A baker | A lawyer | A sailor | A singer
Who teaches children at school? | A teacher | A plumber | A butcher | A pilot
Who puts out fires? | A firefighter | A florist | A tailor | A barber
Who looks after your teeth? | A dentist | A driver | A cook | A painter
Who grows crops on the land? | A farmer | A waiter | A judge | A nurse
Who treats sick animals? | A vet | An actor | A banker | A miner
Who cuts hair? | A hairdresser | A carpenter | An astronaut | A postman
Who delivers letters? | A postman | A chef | A dancer | A surgeon
Who builds houses? | A builder | A poet | A librarian | A jockey
Who repairs water pipes? | A plumber | A violinist | A tailor | A referee
Who travels into space? | An astronaut | A gardener | A cashier | A shepherd""",
    "common_sense": """
What happens if you drop a glass on a stone floor? | It breaks | It flies | It laughs | It grows
What do you do with a book? | Read it | Eat it | Drink it | Drive it
What do you do with a chair? | Sit on it | Read it | Swim in it | Cook it
Where do you buy bread? | At a bakery | At a bank | At a hospital | At a library
Where can you borrow books? | At a library | At a bakery | At a pharmacy | At a garage
What is a fire? | Hot | Frozen | Wet | Quiet and cold
What do people do at a cinema? | Watch a film | Wash clothes | Plant trees | Fix cars
Which is the heaviest? | An elephant | A feather | A leaf | A pencil
Which is the fastest? | An aeroplane | A snail | A turtle | A baby
What do you need to ride a horse? | A saddle | A paddle | A pillow | A ladder
What do cars drive on? | Roads | Rivers | Roofs | Clouds
What do you do when a traffic light is red? | Stop | Sing | Speed up | Sleep
What is sugar like? | Sweet | Sour | Bitter | Salty""",
    "time_and_calendar": """
Which day comes after Monday? | Tuesday | Friday | Sunday | Saturday
Which day comes before Sunday? | Saturday | Monday | Wednesday | Thursday
Which month comes after January? | February | August | November | May
Which is the last month of the year? | December | March | June | July
Which is the first month of the year? | January | October | April | September
How many seconds are in a minute? | Sixty | Seven | Ninety | Twenty
How many years are in a century? | One hundred | Twelve | Thirty | Sixty
How many years are in a decade? | Ten | Four | Fifty | Seven
Which meal do people eat in the morning? | Breakfast | Dinner | Supper | Dessert
Which part of the day comes after the afternoon? | The evening | The morning | The noon | The dawn
What does a calendar show? | Days and months | Roads and rivers | Names of birds | Prices of food
How long does the Earth take to go around the Sun? | One year | One day | One hour | One week
How many weeks are in a year? | Fifty-two | Ten | Nine | Ninety-nine""",
    "tools": """
What do you use to hit a nail? | A hammer | A sponge | A ruler | A pillow
What do you use to turn a screw? | A screwdriver | A toothbrush | A candle | A spoon
What do you use to cut wood? | A saw | A comb | A brush | A rope
What do you use to dig a hole? | A shovel | A plate | A mirror | A needle
What do you use to measure how long a table is? | A tape measure | A kettle | A clock | A scale
What do you use to paint a wall? | A paintbrush | A hammer | A wrench | A saw
What do you use to reach a high shelf? | A ladder | A bucket | A blanket | A spade
What do you use to sew on a button? | A needle and thread | A hammer and nail | A pen | A bow
What do you use to weigh flour? | A scale | A ruler | A clock | A compass
What does a compass show? | Direction | Weight | Time | Temperature
What do you use to make a hole in a wall? | A drill | A broom | A sponge | A glove
What do you use to carry water in the garden? | A watering can | A rake | A wooden box | A hedge
What do you use to collect fallen leaves? | A rake | A drill | A needle | A stapler""",
    "sport": """
In which sport do players kick a ball into a goal? | Football | Tennis | Golf | Chess
In which sport do you use a racket? | Tennis | Boxing | Rowing | Running
Where do people swim? | In a pool | On a court | On a track | In a ring
In which sport do players throw a ball through a hoop? | Basketball | Rugby | Hockey | Golf
What does a cyclist ride? | A bicycle | A horse | A boat | A sledge
What do skiers slide on? | Snow | Sand | Grass | Leaves
In which sport do two people fight with gloves? | Boxing | Cricket | Sailing | Archery
Who makes sure that players follow the rules? | The referee | The singer | The cook | The driver
What does the winner of an Olympic race get? | A gold medal | A wooden spoon | A red card | A fine
What do you need to play football? | A ball | A book | A piano | A candle
How many players of one football team are on the pitch? | Eleven | Three | Twenty-five | Sixty
What should you do before hard exercise? | Warm up | Fall asleep | Eat a big meal | Put on a tie
In which sport do you jump over bars and run on a track? | Athletics | Bowling | Darts | Chess""",
    "music": """
Which instrument has black and white keys? | The piano | The drum | The violin | The trumpet
Which instrument has six strings? | The guitar | The flute | The drum | The trumpet
Which instrument do you hit with sticks? | The drum | The violin | The flute | The harp
Which instrument do you play with a bow? | The violin | The piano | The drum | The trumpet
Which instrument do you blow into? | The trumpet | The guitar | The piano | The drum
What do we call a person who sings? | A singer | A painter | A runner | A baker
Who leads an orchestra? | The conductor | The waiter | The pilot | The goalkeeper
What do we call a large group of people who sing together? | A choir | A team | A jury | A herd
What do people do to music at a party? | They dance | They sleep | They iron | They shave
What do you hear music with? | Your ears | Your eyes | Your knees | Your nose
What do we call the words of a song? | The lyrics | The recipe | The menu | The margin
What do you put on to hear music alone? | Headphones | Sunglasses | Gloves | Slippers
What do we call the person who writes music? | A composer | A carpenter | A dentist | A sailor""",
    "nature": """
What do trees grow from? | Seeds | Stones | Shells | Clouds
What colour is grass? | Green | Purple | Orange | White
Which part of a plant is under the ground? | The roots | The flowers | The leaves | The fruit
What do we call a large area full of trees? | A forest | A desert | A harbour | A beach
What do we call a mountain that spits out lava? | A volcano | A glacier | A valley | A canyon
Where does a river usually end? | In the sea | On a mountain | In a tree | In the sky
What lights the sky at night? | The Moon | The grass | The wind | The rain
What do we call frozen water that falls from the sky? | Snow | Sand | Smoke | Dust
What do bees collect from flowers? | Nectar | Stones | Salt | Wood
Which tree has green needles in winter? | The pine | The apple tree | The oak | The cherry tree
What do we call land with water all around it? | An island | A desert | A valley | A field
What does a rose have on its stem? | Thorns | Feathers | Wheels | Buttons
What grows on an oak tree? | Acorns | Bananas | Grapes | Potatoes""",
    "transport": """
What travels on rails? | A train | A ship | A bicycle | A plane
What travels through the air? | An aeroplane | A bus | A tram | A ferry
What travels on water? | A ship | A lorry | A train | A bus
Where do you wait for a train? | At a station | At a bakery | At a farm | At a theatre
Where do aeroplanes land? | At an airport | At a harbour | At a school | At a market
How many wheels does a car have? | Four | One | Nine | Twelve
What does a green traffic light mean? | Go | Stop | Sleep | Turn back
What do you buy before a train journey? | A ticket | A ladder | A saddle | A carpet
What do you wear in a car to be safe? | A seat belt | A bathing suit | A scarf | An apron
Who drives a bus? | A bus driver | A surgeon | A gardener | A singer
What do most cars need to run? | Fuel | Milk | Sand | Bread
What is a train under a city called? | The underground | The lighthouse | The windmill | The ferry
What do you put on your head when you ride a bicycle? | A helmet | A saddle | A basket | A bell""",
    "household": """
In which room do you cook? | In the kitchen | In the bedroom | In the cellar | In the hall
In which room do you usually sleep? | In the bedroom | In the kitchen | In the garage | In the attic
What do you wash dirty clothes in? | A washing machine | A microwave | A bookcase | A freezer
What do you clean your teeth with? | A toothbrush | A hairbrush | A broom | A fork
What do you wash your hands with? | Soap and water | Bread and butter | Paper and ink | Salt and oil
What do you open to let fresh air in? | A window | A cupboard | A drawer | A book
What do you use to make clothes smooth? | An iron | A whisk | A hammer | A ladder
What do you put on a bed? | A blanket | A bicycle | A bathtub | A stove
Where does the rubbish go? | Into the bin | Into the bed | Into the oven | Onto the sofa
What do you use to clean a carpet? | A vacuum cleaner | A lawn mower | A hair dryer | A dishwasher
What do you use to light a candle? | A match | A spoon | A pillow | A towel
What do you look into to see your own face? | A mirror | A carpet | A curtain | A basket
What do you climb to get to the next floor? | The stairs | The curtain | The shelf | The fridge""",
    "clothes": """
What do you wear on your head? | A hat | A sock | A belt | A shoe
What do you wear around your neck in winter? | A scarf | A sandal | A belt | A glove
What do you wear when you swim? | A swimsuit | A raincoat | A winter coat | A suit and tie
What holds up your trousers? | A belt | A hat | A ring | A sleeve
What do you wear to see better? | Glasses | Mittens | Boots | Earrings
What do you wear inside your shoes? | Socks | Hats | Scarves | Ties
What do you wear in the rain? | A raincoat | A nightgown | A bikini | A wedding dress
What do people wear in bed? | Pyjamas | Ski boots | Helmets | Aprons
What is a wool sweater good for? | Keeping warm | Keeping time | Cutting bread | Catching fish
What do you use to close a jacket? | A zip | A nail | A lock | A cork
What is wool made from? | The hair of sheep | The bark of trees | The shells of eggs | Fish skin
What do you do with dirty clothes? | Wash them | Eat them | Plant them | Read them
What does a bride often wear? | A white dress | A diving suit | A lab coat | A football shirt""",
    "colours_and_shapes": """
What colour is snow? | White | Red | Green | Purple
What colour is blood? | Red | Blue | Green | White
What colour is a lemon? | Yellow | Black | Blue | Brown
What colour is coal? | Black | Pink | Yellow | White
What colour do you get from red and white? | Pink | Green | Black | Blue
What colour do you get from black and white? | Grey | Green | Orange | Yellow
How many sides does a square have? | Four | Two | Seven | Ten
What shape is a ball? | Round | Square | Flat | Pointed
What shape is a wheel? | A circle | A square | A triangle | A star
What colour is chocolate? | Brown | Blue | Green | Pink
What colour is an orange? | Orange | Blue | Black | Grey
How many corners does a triangle have? | Three | Eight | Five | Nine
What colour is a ripe tomato? | Red | Blue | White | Grey""",
    "school": """
Who gives lessons to pupils? | The teacher | The pilot | The fisherman | The hairdresser
What do pupils write in? | A notebook | A pillow | A saucepan | A wardrobe
What do you use to rub out pencil marks? | An eraser | A hammer | A candle | A spoon
What do pupils carry their books in? | A school bag | A bathtub | A teapot | A mailbox
Which subject is about numbers? | Mathematics | History | Music | Art
Which subject is about events of the past? | History | Chemistry | Music | Sport
Which subject is about maps and countries? | Geography | Music | Algebra | Dance
What does a teacher write on in class? | The board | The floor | The ceiling | The door
What do you read in a library? | Books | Clouds | Stones | Coins
What is the first letter of the alphabet? | A | K | T | Z
What is work that pupils do after school called? | Homework | Breakfast | Holiday | Football
Where do you look up what a word means? | In a dictionary | In a cookbook | In a diary | In a novel
What do you do with a question? | Answer it | Drink it | Wear it | Paint it""",
    "feelings_and_manners": """
What do you say when somebody gives you a present? | Thank you | Goodbye | Hurry up | Go away
What do you say when you have hurt somebody? | I am sorry | Well done | Good night | Happy birthday
What do people do when something is funny? | They laugh | They cry | They sleep | They sneeze
What do people do when they are very sad? | They cry | They dance | They cheer | They whistle
What do you say when you leave? | Goodbye | Hello | Welcome | Good morning
What do you say when you meet a friend? | Hello | Goodbye | Good night | Farewell
How do you feel when you win a prize? | Happy | Angry | Bored | Ashamed
How do you feel after working all day? | Tired | Frozen | Invisible | Rested
What do you wish a friend on a birthday? | Happy birthday | Goodbye | Happy Easter | Get well soon
What do you do when a friend is sad? | Comfort him | Laugh at him | Forget him | Sell his bicycle
What word do you add to ask politely? | Please | Never | Quickly | Enough
How does a child feel in a dark scary forest? | Afraid | Proud | Sleepy | Bored
What should you do when somebody else is speaking? | Listen | Shout | Sing | Leave""",
    "shopping_and_money": """
What do you pay with in a shop? | Money | Leaves | Letters | Stones
Where do you keep your money when you go out? | In a wallet | In a shoe | In a kettle | In a vase
Where do people keep their savings? | In a bank | In a school | In a stable | In a stadium
Where do you buy medicine? | At a pharmacy | At a cinema | At a garage | At a museum
Where do you buy fruit and vegetables? | At a market | At a museum | At a hospital | At a theatre
What do you carry your shopping in? | A bag | A lamp | A clock | A pillow
What does a shop give you after you have paid? | A receipt | A diploma | A passport | A medal
What do we call a lower price for a short time? | A sale | A fine | A tax | A loan
What do we call the money that a worker gets? | Wages | Rent | Debt | Interest
What do you pay each month to live in a rented flat? | Rent | Wages | Pocket money | A prize
Which of these usually costs the most? | A house | A pencil | An apple | A newspaper
Which of these usually costs the least? | A sweet | A car | A house | A piano
Who takes your money in a supermarket? | The cashier | The dentist | The pilot | The teacher""",
}
